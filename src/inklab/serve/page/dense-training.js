// A dense network that learns in the page: stochastic gradient descent, written out.

import { uniform } from "./noise.js";

const WEIGHTS = 1, ORDER = 2; // what numbers are drawn for

/** Layers {inputs, outputs, weights, bias}: Glorot uniform weights, each layer's row by row, and biases of zero. */
export function initialLayers(sizes, seed) {
  return sizes.slice(1).map((outputs, i) => {
    const inputs = sizes[i], bound = Math.sqrt(6 / (inputs + outputs));
    const weights = Float32Array.from(uniform([seed, WEIGHTS], i, inputs * outputs), (number) => bound * (2 * number - 1));
    return { inputs, outputs, weights, bias: new Float32Array(outputs) };
  });
}

/** What each layer returns for n images, row by row: ReLU, and in the last layer probabilities. */
export function layerOutputs(layers, images) {
  let values = images;
  return layers.map((layer, i) => {
    const sums = weightedSums(layer, values);
    values = i < layers.length - 1 ? relu(sums) : softmax(sums, layer.outputs);
    return values;
  });
}

/** Mean cross-entropy and accuracy. */
export function evaluate(layers, images, labels) {
  const probabilities = layerOutputs(layers, images).at(-1), classes = layers.at(-1).outputs;
  let loss = 0, right = 0;
  labels.forEach((label, row) => {
    const shares = probabilities.subarray(row * classes, (row + 1) * classes);
    loss -= Math.log(Math.max(shares[label], 1e-12));
    right += shares.indexOf(Math.max(...shares)) === label ? 1 : 0;
  });
  return { loss: loss / labels.length, accuracy: right / labels.length };
}

/** One step down the gradient of the mean cross-entropy of a batch, in place. @returns the loss before it. */
export function trainStep(layers, images, labels, learningRate) {
  const outputs = layerOutputs(layers, images), classes = layers.at(-1).outputs, count = labels.length;
  let loss = 0, gradient = outputs.at(-1).map((share) => share / count); // of the sums of the last layer
  labels.forEach((label, row) => {
    loss -= Math.log(Math.max(outputs.at(-1)[row * classes + label], 1e-12)) / count;
    gradient[row * classes + label] -= 1 / count;
  });
  for (let i = layers.length - 1; i >= 0; i--) {
    gradient = descend(layers[i], i ? outputs[i - 1] : images, gradient, learningRate, i > 0);
  }
  return loss;
}

/** Move a layer down its gradient. @returns the gradient of the layer before, if it is needed: zero where its ReLU is. */
function descend({ inputs, outputs, weights, bias }, values, gradient, learningRate, isNeeded) {
  const before = isNeeded ? new Float32Array(values.length) : null, change = new Float32Array(weights.length);
  for (let row = 0; row * outputs < gradient.length; row++) {
    for (let unit = 0; unit < outputs; unit++) {
      const slope = gradient[row * outputs + unit], start = unit * inputs, from = row * inputs;
      if (slope === 0) continue;
      for (let k = 0; k < inputs; k++) change[start + k] += slope * values[from + k];
      if (before) for (let k = 0; k < inputs; k++) if (values[from + k] > 0) before[from + k] += slope * weights[start + k];
    }
  }
  for (let row = 0; row * outputs < gradient.length; row++) {
    for (let unit = 0; unit < outputs; unit++) bias[unit] -= learningRate * gradient[row * outputs + unit];
  }
  for (let k = 0; k < weights.length; k++) weights[k] -= learningRate * change[k];
  return before;
}

function weightedSums({ inputs, outputs, weights, bias }, values) {
  const rows = values.length / inputs, sums = new Float32Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let unit = 0; unit < outputs; unit++) {
      let sum = bias[unit];
      for (let k = 0, from = row * inputs, start = unit * inputs; k < inputs; k++) sum += weights[start + k] * values[from + k];
      sums[row * outputs + unit] = sum;
    }
  }
  return sums;
}

const relu = (sums) => sums.map((sum) => Math.max(0, sum));

function softmax(sums, classes) {
  for (let start = 0; start < sums.length; start += classes) {
    const row = sums.subarray(start, start + classes), largest = Math.max(...row); // e^800 overflows
    let total = 0;
    for (let k = 0; k < classes; k++) total += row[k] = Math.exp(row[k] - largest);
    for (let k = 0; k < classes; k++) row[k] /= total;
  }
  return sums;
}

/** The numbers from 0 to count - 1 in the random order of an epoch. */
export function epochOrder(count, seed, epoch) {
  const keys = uniform([seed, ORDER], epoch, count);
  return keys.map((_, index) => index).sort((a, b) => keys[a] - keys[b]);
}

