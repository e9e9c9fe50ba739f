// What a dense network computes, all of it. Play with it in the browser's console: `inklab.judge(inklab.examples[3].image)`.

/** What becomes of a layer's sums. */
const ACTIVATIONS = {
  relu: (sums) => sums.map((sum) => Math.max(0, sum)),
  sigmoid: (sums) => sums.map((sum) => 1 / (1 + Math.exp(-sum))), // Each between 0 and 1: a pixel.
  softmax: (sums) => { // All above 0, together 1: probabilities. The largest is taken off first: e^800 is no number.
    const largest = Math.max(...sums), parts = sums.map((sum) => Math.exp(sum - largest));
    const all = parts.reduce((total, part) => total + part, 0);
    return parts.map((part) => part / all);
  },
};

/** One layer: every unit adds up its inputs, each times a weight of its own, and a bias. */
function dense({ weights, bias, activation }, inputs) {
  const sums = Array.from(bias, (sum, unit) => {
    for (let i = 0; i < inputs.length; i++) sum += weights[unit * inputs.length + i] * inputs[i];
    return sum;
  });
  return ACTIVATIONS[activation](sums);
}

/** A network: pixels from 0 to 1 are scaled, and pass through one layer after the other. */
export function forward({ mean, spread, layers }, pixels) {
  return layers.reduce((values, layer) => dense(layer, values), Array.from(pixels, (pixel) => (pixel - mean) / spread));
}

/** Salt and pepper: each pixel is replaced with probability `strength`, by black or white with equal chance. */
export function spoiled(pixels, strength, seed) {
  const random = dice(seed); // One throw a pixel, whatever the strength: so a slider adds to the noise that is there.
  return Array.from(pixels, (pixel) => {
    const thrown = random();
    return thrown < strength / 2 ? 1 : thrown < strength ? 0 : pixel;
  });
}

/** Numbers from 0 to 1 that look like chance and are the same for the same seed (mulberry32). */
function dice(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A network as the page holds it, its weights as text, made ready: floats, each layer's row by row. */
export function opened(network) {
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const layer = ({ activation, weights, bias }) => ({ activation, weights: floats(weights), bias: floats(bias) });
  return network && { ...network, layers: network.layers.map(layer) };
}

/** The bytes that base64 tells. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
