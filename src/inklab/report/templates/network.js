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

/** The output of each layer: pixels in [0, 1] are normalized and pass through all of them. */
export function activations({ mean, std, layers }, pixels) {
  let values = Array.from(pixels, (pixel) => (pixel - mean) / std);
  return layers.map((layer) => (values = dense(layer, values)));
}

/** A network: what its last layer returns. */
export function forward(network, pixels) {
  return activations(network, pixels).at(-1);
}

/** The weights of a unit of the first layer, one for each pixel. */
export function filterOf({ layers: [{ weights, bias }] }, unit) {
  const size = weights.length / bias.length;
  return weights.subarray(unit * size, (unit + 1) * size);
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
