"use strict";
// What attention_page.html does: draws the maps of the data block and lights up words. No library, nothing loaded.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const make = (name, className, text) => {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
};
const percent = w => (100 * w).toFixed(1) + "\u2009%";

// What is shown. layer -1: mean of all layers. head -1: mean of the layer's heads. row, column: what is
// pointed at, -1: nothing; pinned keeps a row after the pointer has left.
const state = { sentence: 0, view: 0, layer: 0, head: 0, row: -1, column: -1, pinned: -1 };
const shown = { view: -1 };  // the kind of attention for which layer and head were chosen
let view = null;

// ---- numbers ----------------------------------------------------------------------------------------------------------

// Weights travel as fractions of 4095, two digits of base64 each: [layers, heads, rows, columns].
const digits = new Uint8Array(128);
[..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"].forEach((c, i) => { digits[c.charCodeAt(0)] = i; });
function decoded(v) {
  if (v.values) return v;
  v.values = new Float32Array(v.weights.length / 2);
  for (let i = 0; i < v.values.length; ++i)
    v.values[i] = (64 * digits[v.weights.charCodeAt(2 * i)] + digits[v.weights.charCodeAt(2 * i + 1)]) / 4095;
  v.means = new Map();
  return v;
}

// One map, row after row: of a head, of a layer's mean (head -1), of the mean of all (layer -1).
function weights(layer, head) {
  const size = view.rows.length * view.columns.length;
  if (layer >= 0 && head >= 0) {
    const at = (layer * view.heads + head) * size;
    return view.values.subarray(at, at + size);
  }
  if (!view.means.has(layer)) {
    const first = layer < 0 ? 0 : layer * view.heads, count = layer < 0 ? view.layers * view.heads : view.heads;
    const mean = new Float32Array(size);
    for (let h = first; h < first + count; ++h)
      for (let i = 0; i < size; ++i) mean[i] += view.values[h * size + i] / count;
    view.means.set(layer, mean);
  }
  return view.means.get(layer);
}

// Two to the power of a row's entropy, on average over the rows.
function words_looked_at(map) {
  const n = view.columns.length;
  let sum = 0;
  for (let r = 0; r < view.rows.length; ++r) {
    let total = 0, bits = 0;
    for (let c = 0; c < n; ++c) total += map[r * n + c];
    for (let c = 0; c < n; ++c) {
      const p = map[r * n + c] / total;
      if (p > 0) bits -= p * Math.log2(p);
    }
    sum += 2 ** bits;
  }
  return sum / view.rows.length;
}

// ---- colours ----------------------------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
const ramps = {
  light: [[246, 243, 236], [203, 222, 219], [127, 180, 186], [45, 120, 140], [10, 56, 79]],
  dark: [[34, 39, 44], [31, 68, 81], [42, 111, 128], [96, 178, 180], [228, 246, 218]],
};
// The square root opens up the small weights, which would all be one shade of paper otherwise.
function color(weight) {
  const ramp = dark.matches ? ramps.dark : ramps.light;
  const x = Math.sqrt(Math.min(Math.max(weight, 0), 1)) * (ramp.length - 1);
  const i = Math.min(Math.floor(x), ramp.length - 2), f = x - i;
  return ramp[i].map((a, k) => Math.round(a + f * (ramp[i + 1][k] - a)));
}
const css = rgb => `rgb(${rgb.join(" ")})`;
const ink_on = rgb => (0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 140 ? "#16191c" : "#fbfaf7");
const style_of = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ---- words ------------------------------------------------------------------------------------------------------------

const label = token => (token.joined ? "\u00b7" : "") + token.text;

const buttons_of = parent => [...parent.querySelectorAll("button")];

function fill_words(parent, tokens, axis) {
  const buttons = tokens.map((token, i) => {
    const b = make("button", "", token.text);
    b.type = "button";
    b.tabIndex = i === 0 ? 0 : -1;
    b.classList.toggle("joined", token.joined);
    b.classList.toggle("continues", i + 1 < tokens.length && tokens[i + 1].joined);
    b.classList.toggle("special", token.special);
    const point = () => point_at(axis === "row" ? i : -1, axis === "column" ? i : -1);
    b.addEventListener("pointerenter", e => e.pointerType === "mouse" && point());
    b.addEventListener("pointerleave", e => e.pointerType === "mouse" && point_at(-1, -1));
    b.addEventListener("focus", point);
    b.addEventListener("blur", () => point_at(-1, -1));
    b.addEventListener("click", () => {
      if (axis === "row") state.pinned = state.pinned === i ? -1 : i;
      point();
    });
    return b;
  });
  // The pieces of a word stay on one line, unless it is as long as a sentence without spaces.
  const words = [];
  buttons.forEach((b, i) => {
    if (!tokens[i].joined || !words.length || words.at(-1).textContent.length > 24) words.push(make("span"));
    words.at(-1).append(b);
  });
  parent.replaceChildren(...words);
  parent.onkeydown = e => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (!move) return;
    e.preventDefault();
    rove(buttons, move);
  };
}

// One stop of the Tab key for a group of buttons; the arrows move within it.
function rove(buttons, move) {
  const from = buttons.indexOf(document.activeElement), to = from + move;
  if (from < 0 || to < 0 || to >= buttons.length) return;
  buttons[from].tabIndex = -1;
  buttons[to].tabIndex = 0;
  buttons[to].focus();
}

// ---- pointing ---------------------------------------------------------------------------------------------------------

function point_at(row, column) {
  state.row = row;
  state.column = column;
  show_pointed();
  draw_map();
}

// Words light up by the weight between them and what is pointed at: a row's looks, or who looks at a column.
function show_pointed() {
  const row = state.row >= 0 ? state.row : state.column >= 0 ? -1 : state.pinned, column = row >= 0 ? -1 : state.column;
  const map = weights(state.layer, state.head), n = view.columns.length;
  const paint = (parent, weight_of, here) => buttons_of(parent).forEach((b, i) => {
    const rgb = weight_of ? color(weight_of(i)) : null;
    b.style.backgroundColor = rgb && weight_of(i) >= 0.005 ? css(rgb) : "";
    b.style.color = rgb && weight_of(i) >= 0.005 ? ink_on(rgb) : "";
    b.classList.toggle("here", i === here);
  });
  paint($("columns"), row >= 0 ? c => map[row * n + c] : null, column);
  paint($("rows"), column >= 0 ? r => map[r * n + column] : null, row);
  buttons_of($("rows")).forEach((b, i) => b.setAttribute("aria-pressed", state.pinned === i));

  const words = row >= 0 ? view.columns.map((t, c) => [t, map[row * n + c]])
              : column >= 0 ? view.rows.map((t, r) => [t, map[r * n + column]]) : [];
  words.sort((a, b) => b[1] - a[1]);
  $("top").replaceChildren(...words.slice(0, 6).filter(w => w[1] >= 0.0005).map(([token, w]) => {
    const li = make("li"), track = make("span", "track"), fill = make("span");
    fill.style.width = 100 * w + "%";
    track.append(fill);
    li.append(make("span", "word", label(token)), make("span", "number", percent(w)), track);
    return li;
  }));
  if (!words.length)
    $("top").replaceChildren(make("li", "note", "Point at a word to see its weights."));

  if (row >= 0 && state.column >= 0)
    $("spoken").textContent = `${view.rows[row].text} to ${view.columns[state.column].text}: ${percent(map[row * n + state.column])}`;
  else if (words.length)
    $("spoken").textContent = (row >= 0 ? `${view.rows[row].text} looks at ` : `${view.columns[column].text} is looked at by `) +
      words.slice(0, 3).map(([t, w]) => `${t.text} ${percent(w)}`).join(", ");
}

// ---- the overview -----------------------------------------------------------------------------------------------------

function draw_tile(canvas, map) {
  canvas.width = view.columns.length;
  canvas.height = view.rows.length;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  map.forEach((w, i) => image.data.set([...color(w), 255], 4 * i));
  context.putImageData(image, 0, 0);
}

function fill_grid() {
  const average = $("average").checked, grid = $("grid");
  const tile = (layer, head) => {
    const b = make("button"), canvas = make("canvas");
    b.type = "button";
    b.setAttribute("aria-label", name_of(layer, head));
    b.title = name_of(layer, head);
    b.append(canvas);
    draw_tile(canvas, weights(layer, head));
    b.addEventListener("click", () => choose(layer, head));
    b.dataset.layer = layer;
    b.dataset.head = head;
    return b;
  };
  const cells = [];
  if (average) {  // one map a layer, and the mean of all
    const across = Math.min(view.layers + (view.layers > 1 ? 1 : 0), 3);
    grid.style.gridTemplateColumns = `repeat(${across}, minmax(4.5rem, 1fr))`;
    for (let l = 0; l < view.layers + (view.layers > 1 ? 1 : 0); ++l) {
      const layer = l < view.layers ? l : -1, box = make("div");
      box.append(tile(layer, -1), make("div", "head", layer < 0 ? "all layers" : `layer ${l + 1}`));
      cells.push(box);
    }
  } else {
    grid.style.gridTemplateColumns = `auto repeat(${view.heads}, minmax(2.2rem, 1fr))`;
    cells.push(make("div"));
    for (let h = 0; h < view.heads; ++h) cells.push(make("div", "head", h === 0 ? "head 1" : h + 1));
    for (let l = 0; l < view.layers; ++l) {
      cells.push(make("div", "head", l === 0 ? "layer 1" : l + 1));
      for (let h = 0; h < view.heads; ++h) cells.push(tile(l, h));
    }
  }
  grid.replaceChildren(...cells);
  const tiles = buttons_of(grid);
  grid.onkeydown = e => {
    const down = average ? 3 : view.heads;
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: down, ArrowUp: -down }[e.key];
    if (!move) return;
    e.preventDefault();
    rove(tiles, move);
  };
  mark_chosen();
}

function mark_chosen() {
  for (const b of buttons_of($("grid"))) {
    const chosen = Number(b.dataset.layer) === state.layer && Number(b.dataset.head) === state.head;
    b.setAttribute("aria-pressed", chosen);
    b.tabIndex = chosen ? 0 : -1;
  }
}

const name_of = (layer, head) => layer < 0 ? "Mean of all layers and heads"
  : head < 0 ? `Layer ${layer + 1}, mean of ${view.heads} heads` : `Layer ${layer + 1}, head ${head + 1}`;

function choose(layer, head) {
  state.layer = layer;
  state.head = head;
  mark_chosen();
  $("map-name").textContent = name_of(layer, head);
  const n = words_looked_at(weights(layer, head));
  $("focus").textContent = `looks at ${n.toFixed(1)} word${n.toFixed(1) === "1.0" ? "" : "s"} on average`;
  $("map").setAttribute("aria-label", `${name_of(layer, head)}: ${view.rows.length} rows, ${view.columns.length} columns. Arrow keys move from cell to cell.`);
  show_pointed();
  draw_map();
}

// ---- the large map ----------------------------------------------------------------------------------------------------

const slant = -55 * Math.PI / 180;  // of the words above the columns
let layout = null;

function cut(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const letters = [...text];
  while (letters.length > 1 && context.measureText(letters.join("") + "\u2026").width > width) letters.pop();
  return letters.join("") + "\u2026";
}

// Labels as wide as they need within bounds, cells as large as the rest allows; below 15 pixels the card scrolls.
function lay_out(context) {
  const room = $("map").closest(".scroll").clientWidth - 12, narrow = room < 480;
  const crowded = view.columns.length * 18 > room - 130;
  const font = crowded ? 11.5 : narrow ? 12.5 : 14, longest = narrow ? 86 : 130;
  context.font = `600 ${font}px ${style_of("--serif")}`;  // as wide as a label gets
  const rows = view.rows.map(t => cut(context, label(t), longest)), columns = view.columns.map(t => cut(context, label(t), longest));
  const widest = texts => Math.max(...texts.map(t => context.measureText(t).width), 10);
  const left = Math.ceil(widest(rows)) + 12;
  const top = Math.ceil(widest(columns) * Math.sin(-slant) + font) + 6;
  const n = columns.length;
  // The slanted words lean out to the right of their columns; the last ones need room there.
  const lean = cell => Math.max(0, ...columns.map((t, c) =>
    (c + 0.5) * cell + context.measureText(t).width * Math.cos(slant) + 4 - n * cell));
  let cell = 40;
  while (cell > 15 && left + n * cell + lean(cell) > room) cell -= 0.5;
  return { rows, columns, font, left, top, cell, width: Math.ceil(left + n * cell + lean(cell)),
           height: Math.ceil(top + rows.length * cell + 2) };
}

function draw_map() {
  const canvas = $("map"), context = canvas.getContext("2d"), map = weights(state.layer, state.head);
  if (!layout) {
    layout = lay_out(context);
    layout.ratio = Math.min(devicePixelRatio || 1, 3);
    canvas.width = layout.width * layout.ratio;
    canvas.height = layout.height * layout.ratio;
    canvas.style.width = layout.width + "px";
    canvas.style.height = layout.height + "px";
  }
  const { rows, columns, font, left, top, cell, ratio } = layout, n = columns.length;
  const row = state.row >= 0 ? state.row : state.column >= 0 ? -1 : state.pinned, column = state.column;
  const ink = style_of("--ink"), soft = style_of("--soft"), accent = style_of("--focus"), serif = style_of("--serif");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, layout.width, layout.height);

  const gap = cell >= 20 ? 1.5 : cell >= 12 ? 1 : 0.5, round = cell >= 20 ? 3 : 1;
  for (let r = 0; r < rows.length; ++r)
    for (let c = 0; c < n; ++c) {
      context.fillStyle = css(color(map[r * n + c]));
      context.beginPath();
      if (context.roundRect) context.roundRect(left + c * cell, top + r * cell, cell - gap, cell - gap, round);
      else context.rect(left + c * cell, top + r * cell, cell - gap, cell - gap);
      context.fill();
    }
  context.strokeStyle = accent;
  context.lineWidth = 1.5;
  if (row >= 0 && column >= 0) context.strokeRect(left + column * cell - 1, top + row * cell - 1, cell + 1, cell + 1);
  else if (row >= 0) context.strokeRect(left - 1, top + row * cell - 1, n * cell + 1, cell + 1);
  else if (column >= 0) context.strokeRect(left + column * cell - 1, top - 1, cell + 1, rows.length * cell + 1);

  const write = (text, special, on) => {
    context.font = `${on ? "600 " : ""}${font}px ${serif}`;
    context.fillStyle = on ? ink : special ? soft : row < 0 && column < 0 ? ink : soft;
    context.fillText(text, 0, 0);
  };
  context.textBaseline = "middle";
  context.textAlign = "right";
  rows.forEach((text, r) => {
    context.save();
    context.translate(left - 8, top + (r + 0.5) * cell - gap / 2);
    write(text, view.rows[r].special, r === row);
    context.restore();
  });
  context.textAlign = "left";
  const looked_at = c => row >= 0 && column < 0 && map[row * n + c] >= 0.1;
  columns.forEach((text, c) => {
    context.save();
    context.translate(left + (c + 0.5) * cell, top - 7);
    context.rotate(slant);
    write(text, view.columns[c].special, c === column || looked_at(c));
    context.restore();
  });

  const tip = $("tip");
  tip.hidden = !(row >= 0 && column >= 0);
  if (!tip.hidden) {
    tip.textContent = `${view.rows[row].text} \u2192 ${view.columns[column].text}  ${percent(map[row * n + column])}`;
    const x = left + (column + 0.5) * cell, half = tip.offsetWidth / 2;
    tip.style.left = Math.max(half, Math.min(x, layout.width - half)) + "px";
    tip.style.top = top + row * cell + "px";
  }
}

function cell_at(event) {
  const box = $("map").getBoundingClientRect();
  const c = Math.floor((event.clientX - box.left - layout.left) / layout.cell);
  const r = Math.floor((event.clientY - box.top - layout.top) / layout.cell);
  const in_rows = r >= 0 && r < view.rows.length, in_columns = c >= 0 && c < view.columns.length;
  if (in_rows && in_columns) return [r, c];
  if (in_rows && c < 0) return [r, -1];   // on the row's word
  if (in_columns && r < 0) return [-1, c];
  return [-1, -1];
}
$("map").addEventListener("pointermove", e => point_at(...cell_at(e)));
$("map").addEventListener("pointerdown", e => point_at(...cell_at(e)));
$("map").addEventListener("pointerleave", e => e.pointerType === "mouse" && point_at(-1, -1));
$("map").addEventListener("blur", () => point_at(-1, -1));
$("map").addEventListener("keydown", e => {
  const by = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[e.key];
  if (!by) return;
  e.preventDefault();
  const within = (x, n) => Math.max(0, Math.min(x, n - 1));
  point_at(state.row < 0 ? 0 : within(state.row + by[0], view.rows.length),
           state.column < 0 ? 0 : within(state.column + by[1], view.columns.length));
});
document.addEventListener("keydown", e => {
  if (e.key !== "Escape") return;
  state.pinned = -1;
  point_at(-1, -1);
});

// ---- choosing what to see ---------------------------------------------------------------------------------------------

// The head to begin with: the one that finds each column a row of its own. Even heads and those that rest on one
// column score low. And the row to begin with: its longest word.
function most_telling() {
  let best = [0, 0], most = -1;
  for (let layer = 0; layer < view.layers; ++layer)
    for (let head = 0; head < view.heads; ++head) {
      const map = weights(layer, head), n = view.columns.length, seen = new Float32Array(n);
      map.forEach((w, i) => { seen[i % n] = Math.max(seen[i % n], w); });
      const sum = seen.reduce((a, b) => a + b, 0);
      if (sum > most) [best, most] = [[layer, head], sum];
    }
  return best;
}
function longest_row() {
  let best = 0;
  view.rows.forEach((t, r) => { if (!t.special && t.text.length > view.rows[best].text.length) best = r; });
  return best;
}

function show_view(index) {
  const sentence = data.sentences[state.sentence];
  state.view = Math.min(index, sentence.views.length - 1);
  view = decoded(sentence.views[state.view]);
  if (state.layer < 0 || state.layer >= view.layers || state.head >= view.heads || state.view !== shown.view)
    [state.layer, state.head] = $("average").checked ? [view.layers - 1, -1] : most_telling();
  shown.view = state.view;
  state.row = state.column = -1;
  state.pinned = longest_row();
  layout = null;
  [...$("views").children].forEach((b, i) => b.setAttribute("aria-pressed", i === state.view));
  $("about").textContent = view.about;
  $("about").hidden = !view.about;
  $("rows-name").textContent = view.rows_name;
  $("columns-name").textContent = view.columns_name;
  fill_words($("columns"), view.columns, "column");
  fill_words($("rows"), view.rows, "row");
  fill_grid();
  choose(state.layer, state.head);
}

function show_sentence(index) {
  state.sentence = index;
  const sentence = data.sentences[index];
  $("sentence").selectedIndex = index;
  $("previous").disabled = index === 0;
  $("next").disabled = index + 1 === data.sentences.length;
  $("views").replaceChildren(...sentence.views.map((v, i) => {
    const b = make("button", "", v.name);
    b.type = "button";
    b.addEventListener("click", () => show_view(i));
    return b;
  }));
  $("views").hidden = sentence.views.length < 2;
  show_view(state.view);
}

function redraw() {
  layout = null;
  fill_grid();
  show_pointed();
  draw_map();
  draw_scale();
}

function draw_scale() {
  const context = $("scale").getContext("2d");
  for (let x = 0; x < 256; ++x) {
    context.fillStyle = css(color((x / 255) ** 2));
    context.fillRect(x, 0, 1, 1);
  }
  $("ticks").replaceChildren(...[0, 0.1, 0.25, 0.5, 1].map(w => {
    const tick = make("span", "", 100 * w + (w === 1 ? "\u2009%" : ""));
    tick.style.left = 100 * Math.sqrt(w) + "%";
    return tick;
  }));
}

document.title = data.title || "Attention";
$("title").textContent = data.title || "Attention";
$("model").textContent = data.model;
$("sentence").replaceChildren(...data.sentences.map((s, i) => make("option", "", `${i + 1}. ${s.title}`)));
$("picker").hidden = data.sentences.length < 2;
$("sentence").addEventListener("change", e => show_sentence(e.target.selectedIndex));
$("previous").addEventListener("click", () => show_sentence(state.sentence - 1));
$("next").addEventListener("click", () => show_sentence(state.sentence + 1));
$("average").addEventListener("change", () => {
  state.head = $("average").checked ? -1 : 0;
  state.layer = Math.max(state.layer, 0);
  fill_grid();
  choose(state.layer, state.head);
});
dark.addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;  // a phone's address bar comes and goes
  width = innerWidth;
  layout = null;
  draw_map();
});
draw_scale();
if (data.sentences.length) show_sentence(0);
