#pragma once

namespace CLI {
class App;
}

/// qkv tokenizer train|encode|decode: learns a vocabulary and shows what it does to text.
void add_tokenizer_command(CLI::App& app);
