"""A transformer block on (4, 100, 512): self-attention and feed-forward, each with a residual and a layer norm.

    post-norm   x = norm(x + sublayer(x))     the original (Vaswani et al., 2017; BERT): the sum is normalized
    pre-norm    x = x + sublayer(norm(x))     GPT-2 and most since: the sublayer's input is normalized, the sum is not

Each of the 4 x 100 tokens is normalized by itself, over its 512 features. A stack of blocks shows the difference: after
post-norm every token has variance 1, with pre-norm the sum grows from block to block, and needs one more norm at the
end of the stack.
"""

import numpy as np

import pyln

BATCH, TOKENS, WIDTH, HEADS, DEPTH = 4, 100, 512, 8, 6


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Block:
    def __init__(self, rng: np.random.Generator, pre_norm: bool) -> None:
        def matrix(rows: int, columns: int) -> np.ndarray:
            return rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(rows))

        self.pre_norm = pre_norm
        self.qkv, self.projection = matrix(WIDTH, 3 * WIDTH), matrix(WIDTH, WIDTH)
        self.expand, self.contract = matrix(WIDTH, 4 * WIDTH), matrix(4 * WIDTH, WIDTH)
        self.attention_norm, self.feed_forward_norm = pyln.LayerNorm(WIDTH), pyln.LayerNorm(WIDTH)

    def attention(self, x: np.ndarray) -> np.ndarray:
        n, t, d = x.shape
        qkv = (x @ self.qkv).reshape(n, t, 3, HEADS, d // HEADS)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)  # each (n, heads, t, d / heads)
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(d // HEADS))
        return (softmax(scores) @ value).swapaxes(1, 2).reshape(n, t, d) @ self.projection

    def feed_forward(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ self.expand, 0) @ self.contract

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.pre_norm:
            x = x + self.attention(self.attention_norm(x))
            return x + self.feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.attention(x))
        return self.feed_forward_norm(x + self.feed_forward(x))


def main() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, TOKENS, WIDTH), dtype=np.float32)
    post = pre = x
    print(f"x {x.shape}; variance of a token's {WIDTH} features, averaged over the {BATCH * TOKENS} tokens")
    print(f"{'':>10} {'post-norm':>10} {'pre-norm':>10}")
    print(f"{'input':>10} {post.var(axis=-1).mean():10.3f} {pre.var(axis=-1).mean():10.3f}")
    for i in range(DEPTH):
        post = Block(rng, pre_norm=False)(post)
        previous, pre = pre, Block(rng, pre_norm=True)(pre)
        print(f"{f'block {i + 1}':>10} {post.var(axis=-1).mean():10.3f} {pre.var(axis=-1).mean():10.3f}")

        assert post.shape == pre.shape == (BATCH, TOKENS, WIDTH)
        assert np.abs(post.mean(axis=-1)).max() < 1e-6
        assert np.abs(post.var(axis=-1) - 1).max() < 1e-4
        assert pre.var(axis=-1).mean() > previous.var(axis=-1).mean()
    print("after post-norm every token has mean 0 and variance 1")


if __name__ == "__main__":
    main()
