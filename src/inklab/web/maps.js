// Signed numbers as images, such as weights and activations: one color for positive, another for negative ones, the larger
// the more opaque.

/** Both colors as red, green and blue, from the style sheet: they follow the theme. */
function signColors() {
  const style = getComputedStyle(document.documentElement);
  const [positive, negative] = ["--c1", "--c2"].map((name) => {
    const code = style.getPropertyValue(name).trim();
    return [1, 3, 5].map((start) => parseInt(code.slice(start, start + 2), 16));
  });
  return { positive, negative };
}

/** The largest absolute value; at least a tiny one, to divide by. NaN counts as 0. */
export function largestOf(values) {
  return values.reduce((largest, value) => (Math.abs(value) > largest ? Math.abs(value) : largest), 1e-12);
}

/** Paint width x height numbers on a canvas of that size; those of `largest` or more are opaque. */
export function paintSigned(canvas, { values, width, height }, largest) {
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const { positive, negative } = signColors();
  values.forEach((value, i) => {
    picture.data.set(value < 0 ? negative : positive, 4 * i);
    picture.data[4 * i + 3] = 255 * Math.min(1, Math.abs(value) / largest);
  });
  context.putImageData(picture, 0, 0);
}

/** Paint a row of numbers on a canvas as rows of cells; the last ones may be empty. @returns how many are in a row. */
export function paintUnits(canvas, values, largest, perRow = 32) {
  const width = Math.min(perRow, values.length), height = Math.ceil(values.length / width);
  const cells = new Float32Array(width * height);
  cells.set(values);
  paintSigned(canvas, { values: cells, width, height }, largest);
  return width;
}
