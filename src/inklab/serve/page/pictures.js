// Pictures from elsewhere: chosen as a file, pasted, or dropped.

const TYPES = ["image/png", "image/jpeg", "image/bmp", "image/webp", ""]; // "": unknown, so the browser looks at its bytes
const MAX_MEGAPIXELS = 100; // that are scaled down here; decoding them takes 400 MB
const SHRUNK_SIDE = 1600; // pixels of the longer side of what is scaled down; the server needs 560
const QUALITY = 0.95; // of WebP, which keeps transparency

/**
 * Call `take(file)` for each picture that the user gives, and `reject(message)` for other files.
 *
 * @param parts {button, input, area}: the button that opens the file chooser, the file input, where pictures may be dropped.
 * Pictures that are too large for a request are scaled down first.
 *
 * @param limits {max_body_bytes, max_picture_pixels} of a request.
 * @param isVisible whether the view is visible: a paste elsewhere is not meant for it.
 */
export function takePictures({ button, input, area }, limits, isVisible, take, reject) {
  const check = async (file) => {
    if (!file) return;
    if (!TYPES.includes(file.type)) return reject(`'${file.name}' is not a PNG, JPEG, BMP or WebP picture.`);
    try {
      take(await fitLimits(file, limits));
    } catch (error) {
      reject(error.message);
    }
  };
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    check(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => isVisible() && check([...event.clipboardData.files][0]));
  addEventListener("dragover", (event) => {
    if (!isVisible() || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    area.classList.add("drop-target");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || area.classList.remove("drop-target"));
  addEventListener("drop", (event) => {
    area.classList.remove("drop-target");
    if (!isVisible() || !event.dataTransfer.files.length) return;
    event.preventDefault(); // or the browser would leave the page for the picture
    check(event.dataTransfer.files[0]);
  });
}

/** A picture within the server's limits: the file itself, or a smaller one. */
async function fitLimits(file, { max_body_bytes: maxBody, max_picture_pixels: maxPixels }) {
  const maxBytes = (maxBody - 2000) * 0.75; // base64 makes four characters of three bytes
  const url = URL.createObjectURL(file), picture = new Image();
  try {
    picture.src = url;
    await new Promise((resolve, reject) => Object.assign(picture, { onload: resolve, onerror: reject })).catch(() => null);
    const { naturalWidth: width, naturalHeight: height } = picture;
    if (!width) return file; // the server says what is wrong
    if (width * height <= maxPixels && file.size <= maxBytes) return file;
    const megapixels = (width * height) / 1e6;
    if (megapixels > MAX_MEGAPIXELS) {
      throw new Error(`'${file.name}' has ${Math.round(megapixels)} megapixels; at most ${MAX_MEGAPIXELS} are read. `
        + "Make it smaller.");
    }
    return new File([await shrink(picture, width, height)], file.name);
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function shrink(picture, width, height) {
  const scale = Math.min(1, SHRUNK_SIDE / Math.max(width, height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(scale * width)), Math.max(1, Math.round(scale * height)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/webp", quality: QUALITY });
}

/** Show a whole file on a square canvas; false if this browser can't read it. */
export async function preview(canvas, file) {
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return false;
  const side = Math.round(canvas.clientWidth * devicePixelRatio) || 600;
  Object.assign(canvas, { width: side, height: side });
  canvas.classList.remove("ink");
  const scale = side / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  canvas.getContext("2d").drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
  picture.close();
  return true;
}
