// Before anything is painted: the colors that the visitor chose on an earlier visit, or those of the system.
"use strict";

(() => {
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("inklab-theme"); } catch { return null; } };
  const apply = () => {
    const theme = ["light", "dark"].includes(chosen()) ? chosen() : isDark.matches ? "dark" : "light";
    document.documentElement.dataset.theme = theme;
  };
  isDark.addEventListener("change", apply);
  addEventListener("storage", apply); // another tab
  apply();
})();
