// A drawing, brought into the form of the images that a network was trained on. It does for a drawing, whose ground is
// known, what inklab's Python (inklab/data/preprocessing.py) does for a photograph of one; they agree to a pixel's rounding.

const TRACE = 0.3; // Share of full ink where a stroke begins, as in Python.

/**
 * @param {Uint8Array} ink side x side pixels, 0 none to 255 full; 280 or more a side are enough for images of 28.
 * @param {object} framing of a bundle: {channels, height, width, light_on_dark, box, centre: "mass" | "box" | "none"}.
 * @returns {Uint8Array | null} channels x height x width pixels, row by row; null where there is no ink.
 */
export function frame(ink, side, framing) {
  const cut = cropped({ pixels: ink, width: side, height: side });
  if (!cut) return null;
  const { width, height, channels } = framing;
  const plane = framing.centre === "none"
    ? resized({ pixels: ink, width: side, height: side }, width, height).pixels // The whole pad, wherever the ink is.
    : placed(fitted(cut, framing.box), framing);
  const image = new Uint8Array(channels * plane.length);
  for (let i = 0; i < image.length; i++) {
    const value = plane[i % plane.length];
    image[i] = framing.light_on_dark ? value : 255 - value;
  }
  return image;
}

/** What lies within the outermost traces of ink. */
function cropped({ pixels, width, height }) {
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (pixels[y * width + x] > 255 * TRACE) {
        left = Math.min(left, x), right = Math.max(right, x);
        top = Math.min(top, y), bottom = y;
      }
  if (right < 0) return null;
  const across = right - left + 1, down = bottom - top + 1, cut = new Uint8Array(across * down);
  for (let y = 0; y < down; y++) cut.set(pixels.subarray((top + y) * width + left).subarray(0, across), y * across);
  return { pixels: cut, width: across, height: down };
}

/** Its longer side made as long as the box. (Python smooths what it enlarges more than twice; here that is a dot.) */
function fitted(cut, box) {
  const scale = box / Math.max(cut.width, cut.height);
  return resized(cut, Math.max(1, even(cut.width * scale)), Math.max(1, even(cut.height * scale)));
}

/** On an empty image, so that the ink's centre comes to its middle. */
function placed({ pixels, width, height }, framing) {
  const columns = new Float64Array(width), rows = new Float64Array(height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      columns[x] += pixels[y * width + x];
      rows[y] += pixels[y * width + x];
    }
  const left = start(columns, framing.width, framing.centre), top = start(rows, framing.height, framing.centre);
  const image = new Uint8Array(framing.width * framing.height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) image[(top + y) * framing.width + left + x] = pixels[y * width + x];
  return image;
}

/** Where a strip begins so that its centre comes to the middle of `room` pixels, but never outside. */
function start(profile, room, centre) {
  const side = profile.length;
  let begin = (room - side) / 2;
  const mass = profile.reduce((sum, value) => sum + value, 0);
  if (centre === "mass" && mass > 0)
    // Pixel 14 of 0 to 27, not 13.5: there lies the mean centre of mass of MNIST's digits.
    begin = Math.floor(room / 2) - profile.reduce((sum, value, i) => sum + i * value, 0) / mass;
  return Math.min(Math.max(even(begin), 0), room - side);
}

/** Rounded as Python does: halves go to the even neighbour. */
function even(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** Another size, bicubic; when it shrinks, each pixel is made of all that it covers, so nothing flickers or vanishes. */
function resized({ pixels, width, height }, newWidth, newHeight) {
  const across = weights(width, newWidth), down = weights(height, newHeight);
  const wide = new Uint8ClampedArray(newWidth * height); // Clamped arrays round and stay in 0 to 255.
  for (let y = 0; y < height; y++)
    for (let x = 0; x < newWidth; x++) wide[y * newWidth + x] = mixed(across[x], pixels, y * width, 1);
  const made = new Uint8ClampedArray(newWidth * newHeight);
  for (let y = 0; y < newHeight; y++)
    for (let x = 0; x < newWidth; x++) made[y * newWidth + x] = mixed(down[y], wide, x, newWidth);
  return { pixels: made, width: newWidth, height: newHeight };
}

/** One new pixel, of those that lie `step` apart from `place` on. */
function mixed({ from, shares }, pixels, place, step) {
  let sum = 0;
  for (let i = 0; i < shares.length; i++) sum += shares[i] * pixels[place + (from + i) * step];
  return sum;
}

/** For each of `to` new pixels, from which of `from` old ones on it is made, and the share that each has in it. */
function weights(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, pixel) => {
    const centre = (pixel + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - 2 * reach + 0.5)), end = Math.min(from, Math.floor(centre + 2 * reach + 0.5));
    const shares = Array.from({ length: end - first }, (_, i) => bicubic((first + i + 0.5 - centre) / reach));
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
