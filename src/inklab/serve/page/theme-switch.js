// The switch between light and dark colors; without a choice, the page follows the system.

const KEY = "inklab-theme"; // as in theme.js, which applies it before anything is painted

/** @param select with the values system, light and dark; @param onChange is called when the colors have changed. */
export function setUpThemeSwitch(select, onChange) {
  select.value = stored() ?? "system";
  select.addEventListener("change", () => {
    try {
      if (select.value === "system") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, select.value);
    } catch { /* without storage, the choice ends with the page */ }
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    document.documentElement.dataset.theme = select.value === "system" ? system : select.value;
  });
  new MutationObserver(onChange).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
