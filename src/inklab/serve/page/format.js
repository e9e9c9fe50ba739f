// Numbers and names as text, worded as in the report.

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** A probability; never rounded to certainty. */
export const probability = (share) => (share >= 0.9995 ? "> 99.9%" : percent(share, 1));

export const number = (value, digits = 4) => (value === 0 ? "0" : String(Number(value.toPrecision(digits))));

/** A value of a setting, as inklab.format.format_value writes it: 1e-6 rather than 0.000001. */
export function settingValue(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return value.map(settingValue).join("-");
  if (typeof value === "object") return setting(value);
  if (typeof value !== "number") return String(value);
  return value !== 0 && Math.abs(value) <= 1e-3 ? value.toExponential() : String(Number(value.toPrecision(6)));
}

/** A setting, such as "l2 = 1e-6". */
export const setting = (values) =>
  Object.entries(values).map(([key, value]) => `${key} = ${settingValue(value)}`).join(", ");

const SMALL = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
export const count = (n) => SMALL[n] ?? String(n);

export const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds < 600 ? `${Math.round(seconds % 60)} s` : ""}`.trim();
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** Whether the classes are digits, for headings. */
export const areDigits = (labels) => labels.every((label) => /^\d$/.test(label));
