// Elements made by hand. Whatever comes from the server goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element. `on…` adds a listener, properties of elements are set, everything else becomes an attribute. */
export function el(name, settings = {}, ...children) {
  return configure(document.createElement(name), settings, children);
}

/** The same for SVG. */
export function svg(name, settings = {}, ...children) {
  return configure(document.createElementNS(SVG, name), settings, children);
}

function configure(element, settings, children) {
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

/** Set a text only if it differs: a screen reader does not repeat it, and the layout stays. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make a parent's children those that `make` returns for each item, and keep those whose key is still there. */
export function keyedList(parent, items, keyOf, make) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const children = items.map((item) => {
    const key = String(keyOf(item));
    const child = old.get(key) ?? make(item);
    child.dataset.key = key;
    return child;
  });
  const same = children.length === parent.children.length && children.every((child, i) => child === parent.children[i]);
  if (!same) parent.replaceChildren(...children);
  return children;
}

/** A function that runs a task at most once per animation frame, however often it is called. */
export function perFrame(task) {
  let scheduled = false;
  return () => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; task(); });
  };
}

/** A number input's whole number within its limits, or null. */
export function wholeNumber(input) {
  const number = Number(input.value);
  const valid = input.value !== "" && Number.isInteger(number) && number >= Number(input.min) && number <= Number(input.max);
  return valid ? number : null;
}

/** A new seed, short enough to be read out in a class. */
export const randomSeed = () => Math.floor(Math.random() * 10000);
