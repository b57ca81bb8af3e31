"""Attention alone, as `qkv bench attention` measures it: the better of plain operations and, where this PyTorch has it, the fused one."""
import peer
import torch

SHAPES = ('8x12x128x64', '4x12x512x64', '1x12x4096x64', '1x16x16384x64')


def attention(how, shape, dtype, causal, backward):
    attend = peer.attend_fused if how == 'fused' else peer.attend_plainly
    batch, heads, length, d = (int(n) for n in shape.split('x'))
    q, k, v, gradient = (torch.randn(batch, heads, length, d).to(peer.DTYPES[dtype]) for _ in range(4))
    base = peer.peak_rss_mb()

    def forward():
        with torch.inference_mode():
            attend(q, k, v, causal)

    def forward_and_backward():
        for x in (q, k, v):
            x.requires_grad_()
            x.grad = None
        attend(q, k, v, causal).backward(gradient)

    # q k^T and the sum over v; nothing taken off for what the mask hides.
    flop = 4.0 * batch * heads * length * length * d * (3 if backward else 1)
    timing = peer.timed(forward_and_backward if backward else forward)
    name = f'attn {"fwdbwd" if backward else "fwd"} B{batch} H{heads} S{length} D{d} {dtype}{" causal" if causal else ""} {how}'
    return peer.line(name, dtype, timing, flop / 1e9, 'gflops', shape=shape, base_rss_mb=round(base))


if __name__ == '__main__':
    parser = peer.options(__doc__, peer.DTYPES)
    parser.add_argument('--shape', help='BATCHxHEADSxLENGTHxWIDTH; default: each of ' + ', '.join(SHAPES))
    parser.add_argument('--causal', action='store_true', help='query i sees keys up to its own')
    parser.add_argument('--backward', action='store_true', help='forward and backward')
    o = parser.parse_args()
    for shape in [o.shape] if o.shape else SHAPES:
        for dtype in [o.dtype] if o.dtype else peer.DTYPES:
            ways = ['plain', 'fused'] if peer.HAS_FUSED else ['plain']
            peer.measure(o.threads, attention, *((how, shape, dtype, o.causal, o.backward) for how in ways))
