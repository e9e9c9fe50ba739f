// Images as bytes: base64 as the server speaks it, and onto canvases pixel by pixel.

/** Bytes as base64. */
export function toText(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) {
    text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  }
  return btoa(text);
}

/** Base64 as bytes; null if it is none, or holds another number of bytes than expected. */
export function toBytes(text, expected) {
  try {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return expected === undefined || bytes.length === expected ? bytes : null;
  } catch {
    return null;
  }
}

/** Base64 as it may stand in an address, and back. */
export const toLink = (text) => text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
export const fromLink = (text) => text.replaceAll("-", "+").replaceAll("_", "/");

/** A file's bytes as base64. */
export const fileText = async (file) => toText(new Uint8Array(await file.arrayBuffer()));

/** How images of a study are drawn, once for the whole page. */
export class Painter {
  /** @param image its {channels, height, width}; @param framing how pictures become such images, or null. */
  constructor(image, framing) {
    this.image = image;
    this.bytes = image.channels * image.height * image.width;
    // As in the report: light strokes on a dark ground are ink on paper. Plain pictures stay as they are.
    this.ink = image.channels === 1 && Boolean(framing?.light_on_dark) && framing.centre !== "none";
  }

  /** Draw an image on a canvas of its own size; the style sheet enlarges it. */
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
    const made = new ImageData(width, height);
    const size = height * width;
    for (let place = 0; place < size; place++) {
      const to = 4 * place;
      if (this.ink) made.data[to + 3] = bytes[place]; // black, as opaque as there is ink
      else {
        for (let c = 0; c < 3; c++) made.data[to + c] = bytes[(channels === 1 ? 0 : c) * size + place];
        made.data[to + 3] = 255;
      }
    }
    return made;
  }

  /** Many images as one canvas, row by row. */
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
