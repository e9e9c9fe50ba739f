// Salt and pepper in a page: the pixels that Python gets, to the bit.

const NOISE_KEY = [444256096, 1668102737]; // Of Seed(0) / "pad": the page's seed is the number of the image.

/** Salt and pepper: each pixel is replaced with probability `strength`, by black or white with equal chance.
 *
 * The same pixels as `corruptions["salt_and_pepper"](image, strength, (Seed(0) / "pad").draws(first=seed))` in Python. */
export function corrupt(pixels, strength, seed) {
  const numbers = uniform(NOISE_KEY, seed, pixels.length), share = Math.fround(strength); // One number per pixel,
  return Array.from(pixels, (pixel, i) => { // whatever the strength: more strength only adds noise.
    return numbers[i] < share / 2 ? 1 : numbers[i] < share ? 0 : pixel;
  });
}

/** Uniform numbers in [0, 1), a function of the key, the image and the position alone: those of inklab/counters.py. */
export function uniform([first, second], image, count) {
  const row = mix(mix(image ^ first) ^ second);
  return Array.from({ length: count }, (_, position) => {
    const column = mix(mix(position ^ second ^ 0x9e3779b9) ^ first);
    return (mix(row ^ column) >>> 8) / 2 ** 24;
  });
}

/** The mixer `lowbias32` (C. Wellons, 2018). */
function mix(bits) {
  bits = Math.imul(bits ^ (bits >>> 16), 0x7feb352d);
  bits = Math.imul(bits ^ (bits >>> 15), 0x846ca68b);
  return bits ^ (bits >>> 16);
}
