// What a dense network computes. Try it in the browser's console: `inklab.predict(inklab.examples[3].image)`.

const ACTIVATIONS = {
  relu: (sums) => sums.map((sum) => Math.max(0, sum)),
  sigmoid: (sums) => sums.map((sum) => 1 / (1 + Math.exp(-sum))), // Each in [0, 1]: a pixel.
  softmax: (sums) => { // Probabilities. The largest sum is subtracted first: e^800 overflows.
    const largest = Math.max(...sums), parts = sums.map((sum) => Math.exp(sum - largest));
    const total = parts.reduce((sum, part) => sum + part, 0);
    return parts.map((part) => part / total);
  },
};

/** One layer: activation(weights @ inputs + bias). */
function dense({ weights, bias, activation }, inputs) {
  const sums = Array.from(bias, (sum, unit) => {
    for (let i = 0; i < inputs.length; i++) sum += weights[unit * inputs.length + i] * inputs[i];
    return sum;
  });
  return ACTIVATIONS[activation](sums);
}

/** A network: pixels in [0, 1] are normalized and pass through the layers. */
export function forward({ mean, std, layers }, pixels) {
  return layers.reduce((values, layer) => dense(layer, values), Array.from(pixels, (pixel) => (pixel - mean) / std));
}

/** Salt and pepper: each pixel is replaced with probability `strength`, by black or white with equal chance. */
export function corrupt(pixels, strength, seed) {
  const random = randomNumbers(seed); // One number per pixel, whatever the strength: more strength only adds noise.
  return Array.from(pixels, (pixel) => {
    const number = random();
    return number < strength / 2 ? 1 : number < strength ? 0 : pixel;
  });
}

/** Pseudorandom numbers in [0, 1), the same for the same seed (mulberry32). */
function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A network from the page's data: its weights are base64 of float32, each layer's row by row. */
export function decodeNetwork(network) {
  const floats = (text) => new Float32Array(decodeBase64(text).buffer);
  const layer = ({ activation, weights, bias }) => ({ activation, weights: floats(weights), bias: floats(bias) });
  return network && { ...network, layers: network.layers.map(layer) };
}

export function decodeBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
