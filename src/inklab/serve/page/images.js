// Images as bytes: base64 as in the API, and onto canvases pixel by pixel.

/** Bytes to base64. */
export function encodeBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}

/** Base64 to bytes; null if it is none, or has another number of bytes than expected. */
export function decodeBase64(text, expected) {
  try {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return expected === undefined || bytes.length === expected ? bytes : null;
  } catch {
    return null;
  }
}

/** Base64 of float32 to numbers. */
export const decodeFloats = (text) => new Float32Array(decodeBase64(text).buffer);

/** Base64 as an address can contain it, and back. */
export const toUrlSafe = (text) => text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
export const fromUrlSafe = (text) => text.replaceAll("-", "+").replaceAll("_", "/");

/** A file's bytes as base64. */
export const encodeFile = async (file) => encodeBase64(new Uint8Array(await file.arrayBuffer()));

/** How images are painted, the same on the whole page. */
export class Painter {
  /** @param image its {channels, height, width}; @param preprocessing how pictures become such images, or null. */
  constructor(image, preprocessing) {
    this.image = image;
    this.size = image.channels * image.height * image.width; // bytes
    // As in the report: light strokes on a dark ground become ink on paper. Resized pictures stay as they are.
    this.ink = image.channels === 1 && Boolean(preprocessing?.light_on_dark) && preprocessing.center !== "none";
  }

  /** Base64 to the bytes of an image; null if it is none. */
  decode(text) {
    return decodeBase64(text, this.size);
  }

  /** Paint an image on a canvas of its own size; the style sheet enlarges it. */
  paint(canvas, bytes) {
    const { height, width } = this.image;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.classList.toggle("ink", this.ink);
    canvas.style.aspectRatio = `${width} / ${height}`;
    const context = canvas.getContext("2d");
    if (bytes) context.putImageData(this.pixels(bytes), 0, 0);
    else context.clearRect(0, 0, width, height);
  }

  /** The image as red, green, blue and opacity. */
  pixels(bytes) {
    const { channels, height, width } = this.image;
    const pixels = new ImageData(width, height);
    const plane = height * width;
    for (let i = 0; i < plane; i++) {
      if (this.ink) pixels.data[4 * i + 3] = bytes[i]; // black, as opaque as there is ink
      else {
        for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = bytes[(channels === 1 ? 0 : c) * plane + i];
        pixels.data[4 * i + 3] = 255;
      }
    }
    return pixels;
  }

  /** Paint many images on one canvas, row by row. */
  paintMany(canvas, images, columns) {
    const { height, width } = this.image;
    Object.assign(canvas, { width: columns * width, height: Math.ceil(images.length / columns) * height });
    canvas.classList.toggle("ink", this.ink);
    const context = canvas.getContext("2d");
    images.forEach((bytes, i) => {
      context.putImageData(this.pixels(bytes), (i % columns) * width, Math.floor(i / columns) * height);
    });
  }
}
