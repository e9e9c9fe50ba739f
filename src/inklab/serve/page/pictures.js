// Pictures from elsewhere: chosen as a file, pasted, or dropped.

const TYPES = ["image/png", "image/jpeg", "image/bmp", "image/webp"];

/**
 * Call `take(file)` for each picture that the user gives, and `reject(message)` for other files.
 *
 * @param parts {button, input, area}: the button that opens the file chooser, the file input, where pictures may be dropped.
 * @param limits {max_body_bytes} of a request.
 * @param isVisible whether the view is visible: a paste elsewhere is not meant for it.
 */
export function takePictures({ button, input, area }, { max_body_bytes: maxBody }, isVisible, take, reject) {
  const maxBytes = (maxBody - 2000) * 0.75; // base64 makes four characters of three bytes
  const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  const check = (file) => {
    if (!file) return;
    if (!TYPES.includes(file.type)) reject(`'${file.name}' is not a PNG, JPEG, BMP or WebP picture.`);
    else if (file.size <= maxBytes) take(file);
    else reject(`'${file.name}' has ${megabytes(file.size)}; at most ${megabytes(maxBytes)} are allowed. Make it smaller.`);
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
