// Makes an image like a network's training images from a drawing. Python's inklab/data/preprocessing.py does the same for a
// photograph of a drawing; the two agree up to rounding.

const MIN_INK = 0.3; // Share of full ink that counts as a stroke, as in Python.

/**
 * @param {Uint8Array} ink side x side pixels, 0 none to 255 full; 280 or more a side are enough for images of 28.
 * @param {object} config preprocessing of a trained model: {channels, height, width, light_on_dark, fit_to, center: "mass" | "box" | "none"}.
 * @returns {Uint8Array | null} channels x height x width pixels, row by row; null where there is no ink.
 */
export function preprocess(ink, side, config) {
  const strokes = crop({ pixels: ink, width: side, height: side });
  if (!strokes) return null;
  const { width, height, channels } = config;
  const plane = config.center === "none"
    ? resize({ pixels: ink, width: side, height: side }, width, height).pixels // The whole pad, wherever the strokes are.
    : paste(fit(strokes, config.fit_to), config);
  const image = new Uint8Array(channels * plane.length);
  for (let i = 0; i < image.length; i++) {
    const value = plane[i % plane.length];
    image[i] = config.light_on_dark ? value : 255 - value;
  }
  return image;
}

/** The bounding box of the strokes. */
function crop({ pixels, width, height }) {
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (pixels[y * width + x] > 255 * MIN_INK) {
        left = Math.min(left, x), right = Math.max(right, x);
        top = Math.min(top, y), bottom = y;
      }
  if (right < 0) return null;
  const across = right - left + 1, down = bottom - top + 1, cut = new Uint8Array(across * down);
  for (let y = 0; y < down; y++) cut.set(pixels.subarray((top + y) * width + left).subarray(0, across), y * across);
  return { pixels: cut, width: across, height: down };
}

/** Resize so that the longer side is `size`. (Python also smooths what it enlarges more than twice; here that is a dot.) */
function fit(image, size) {
  const scale = size / Math.max(image.width, image.height);
  return resize(image, Math.max(1, roundHalfEven(image.width * scale)), Math.max(1, roundHalfEven(image.height * scale)));
}

/** Put strokes on an empty image, with their center in the middle. */
function paste({ pixels, width, height }, config) {
  const columns = new Float64Array(width), rows = new Float64Array(height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      columns[x] += pixels[y * width + x];
      rows[y] += pixels[y * width + x];
    }
  const left = offset(columns, config.width, config.center), top = offset(rows, config.height, config.center);
  const image = new Uint8Array(config.width * config.height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) image[(top + y) * config.width + left + x] = pixels[y * width + x];
  return image;
}

/** Where strokes with a profile of ink start so that their center is in the middle of `size` pixels; never outside. */
function offset(profile, size, center) {
  const side = profile.length;
  let begin = (size - side) / 2;
  const mass = profile.reduce((sum, value) => sum + value, 0);
  if (center === "mass" && mass > 0)
    // Pixel 14 of 0 to 27, not 13.5: the mean center of mass of MNIST's digits is there.
    begin = Math.floor(size / 2) - profile.reduce((sum, value, i) => sum + i * value, 0) / mass;
  return Math.min(Math.max(roundHalfEven(begin), 0), size - side);
}

/** Round like Python: halves go to the even neighbor. */
function roundHalfEven(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** Bicubic; when the image shrinks, each new pixel is a mean over all that it covers, so thin strokes do not vanish. */
function resize({ pixels, width, height }, newWidth, newHeight) {
  const across = weights(width, newWidth), down = weights(height, newHeight);
  const wide = new Uint8ClampedArray(newWidth * height); // Clamped arrays round and stay in 0 to 255.
  for (let y = 0; y < height; y++)
    for (let x = 0; x < newWidth; x++) wide[y * newWidth + x] = weightedSum(across[x], pixels, y * width, 1);
  const resized = new Uint8ClampedArray(newWidth * newHeight);
  for (let y = 0; y < newHeight; y++)
    for (let x = 0; x < newWidth; x++) resized[y * newWidth + x] = weightedSum(down[y], wide, x, newWidth);
  return { pixels: resized, width: newWidth, height: newHeight };
}

/** One new pixel, from old ones `step` apart, the first at `start`. */
function weightedSum({ from, shares }, pixels, start, step) {
  let sum = 0;
  for (let i = 0; i < shares.length; i++) sum += shares[i] * pixels[start + (from + i) * step];
  return sum;
}

/** For each of `to` new pixels: the first of `from` old pixels that it depends on, and their weights. */
function weights(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, pixel) => {
    const center = (pixel + 0.5) * scale;
    const first = Math.max(0, Math.floor(center - 2 * reach + 0.5)), end = Math.min(from, Math.floor(center + 2 * reach + 0.5));
    const shares = Array.from({ length: end - first }, (_, i) => bicubic((first + i + 0.5 - center) / reach));
    const sum = shares.reduce((all, share) => all + share, 0);
    return { from: first, shares: shares.map((share) => share / sum) };
  });
}

/** Keys' cubic with a = -1/2, as Pillow has it. */
function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}
