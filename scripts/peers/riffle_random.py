"""Riffle's random numbers (core/rng.h) again, in plain Python: which images a training batch holds is a pure function of
(seed, epoch), so that another program can train on the very same batches."""

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
SHUFFLE_EPOCH = 2  # RandomPurpose::kShuffleEpoch


def mix(x):
    """SplitMix64's finaliser."""
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def philox(key, block):
    """Philox4x32-10: four 32-bit words. key: (k0, k1, c2, c3)."""
    k0, k1, c2, c3 = key
    c0, c1 = block & MASK32, block >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & MASK32
        k0, k1 = (k0 + 0x9E3779B9) & MASK32, (k1 + 0xBB67AE85) & MASK32
    return c0, c1, c2, c3


def words(seed, purpose, a, b=0):
    """The stream of 32-bit words with these coordinates."""
    key = mix(mix(seed) ^ purpose)
    coordinates = mix((mix(a) + 0x632BE59BD9B4E019 * b + 1) & MASK64)
    key = (key & MASK32, key >> 32, coordinates & MASK32, coordinates >> 32)
    block = 0
    while True:
        yield from philox(key, block)
        block += 1


def below(stream, bound):
    """0 .. bound-1 (Lemire's multiplication with rejection)."""
    threshold = ((1 << 32) - bound) % bound
    while True:
        product = next(stream) * bound
        if product & MASK32 >= threshold:
            return product >> 32


def epoch_order(size, seed, epoch):
    """The dataset indices of an epoch (counted from 0), in the order in which Riffle's loader shows them."""
    order, stream = list(range(size)), words(seed, SHUFFLE_EPOCH, epoch)
    for i in range(size - 1, 0, -1):
        j = below(stream, i + 1)
        order[i], order[j] = order[j], order[i]
    return order
