// Elements made by hand. Whatever comes from the server goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element. `on…` listens, properties that elements have are set, everything else becomes an attribute. */
export function el(name, settings = {}, ...children) {
  return dressed(document.createElement(name), settings, children);
}

/** The same for a drawing. */
export function svg(name, settings = {}, ...children) {
  return dressed(document.createElementNS(SVG, name), settings, children);
}

function dressed(element, settings, children) {
  for (const [key, value] of Object.entries(settings)) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (["text", "hidden", "disabled", "checked", "value", "max", "tabIndex"].includes(key)) {
      element[key === "text" ? "textContent" : key] = value;
    } else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set a text only if it differs: a screen reader is not told twice, and nothing is laid out again. */
export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make a parent's children those that `make` gives for each item, keeping those whose key is still there. */
export function keyed(parent, items, keyOf, make) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    const child = old.get(key) ?? make(item);
    child.dataset.key = key;
    return child;
  });
  const same = wanted.length === parent.children.length && wanted.every((child, i) => child === parent.children[i]);
  if (!same) parent.replaceChildren(...wanted);
  return wanted;
}

/** Call a function at most once an animation frame, however often it is asked for. */
export function perFrame(task) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; task(); });
  };
}

/** A number input's whole number within its limits, or null. */
export function wholeNumber(input) {
  const number = Number(input.value);
  const sound = input.value !== "" && Number.isInteger(number) && number >= Number(input.min) && number <= Number(input.max);
  return sound ? number : null;
}

/** A seed that was not used just now; short, so that it can be said aloud in a class. */
export const freshSeed = () => Math.floor(Math.random() * 10000);
