// Pictures from elsewhere: chosen as a file, pasted, or dropped.

const KINDS = ["image/png", "image/jpeg", "image/bmp", "image/webp"];

/**
 * Call `take(file)` for each picture that somebody gives, and `refuse(line)` for what is none.
 *
 * @param parts {button, input, area}: what opens the chooser, the file input, where a picture may be dropped.
 * @param limits {body}: bytes that a question to the server may have.
 * @param here whether the view is on show: pasting elsewhere is not meant.
 */
export function takePictures({ button, input, area }, { body }, here, take, refuse) {
  const most = (body - 2000) * 0.75; // base64 makes four letters of three bytes
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  const consider = (file) => {
    if (!file) return;
    if (!KINDS.includes(file.type)) refuse(`'${file.name}' is not a picture that can be read; PNG, JPEG, BMP and WebP can.`);
    else if (file.size > most) refuse(`'${file.name}' has ${mib(file.size)}; up to ${mib(most)} are taken. Make it smaller.`);
    else take(file);
  };
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    consider(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => here() && consider([...event.clipboardData.files][0]));
  addEventListener("dragover", (event) => {
    if (!here() || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    area.classList.add("awaits");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || area.classList.remove("awaits"));
  addEventListener("drop", (event) => {
    area.classList.remove("awaits");
    if (!here() || !event.dataTransfer.files.length) return;
    event.preventDefault(); // or the browser would leave the page for the picture
    consider(event.dataTransfer.files[0]);
  });
}

/** Show a file as a whole on a square canvas; false if this browser can't read it. */
export async function preview(canvas, file) {
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return false;
  const side = Math.round(canvas.clientWidth * devicePixelRatio) || 600;
  Object.assign(canvas, { width: side, height: side });
  canvas.classList.remove("ink");
  const share = side / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * share, picture.height * share];
  canvas.getContext("2d").drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
  picture.close();
  return true;
}
