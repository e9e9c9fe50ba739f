// The values of an epoch under a chart: pointed at, touched, or chosen with the arrow keys.

import { el, setText, svg } from "./dom.js";

const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
const HINT = "Point at the chart, or use the arrow keys, for the values of an epoch.";

export class EpochReader {
  constructor() {
    this.epoch = null; // the one that is shown
    this.chart = el("div", { class: "readable", role: "slider", tabIndex: 0, "aria-label": "Epoch", "aria-valuemin": 1 });
    this.text = el("p", { class: "small reading-text", "aria-hidden": "true", text: HINT });
    this.element = el("div", {}, this.chart, this.text);
    this.chart.addEventListener("pointermove", (event) => this._point(event));
    this.chart.addEventListener("pointerdown", (event) => this._point(event));
    this.chart.addEventListener("keydown", (event) => this._onKey(event));
  }

  /** @param marks {x: positions of epochs, top, bottom, left, right, width} of the drawing; @param describe an epoch in words. */
  show(drawing, marks, lastEpoch, describe) {
    Object.assign(this, { marks, lastEpoch, describe });
    this.line = svg("line", { class: "marker", y1: marks.top, y2: marks.bottom });
    drawing.append(this.line);
    this.chart.replaceChildren(drawing);
    this.chart.setAttribute("aria-valuemax", lastEpoch);
    this._read(this.epoch);
  }

  _point({ clientX }) {
    const box = this.chart.getBoundingClientRect(), { left, right, width } = this.marks;
    const share = (((clientX - box.left) / box.width) * width - left) / (right - left);
    this._read(Math.round(1 + share * (this.lastEpoch - 1)));
  }

  _onKey(event) {
    let epoch = (this.epoch ?? this.lastEpoch + 1) + (STEPS[event.key] ?? 0);
    if (event.key === "Home") epoch = 1;
    else if (event.key === "End") epoch = this.lastEpoch;
    else if (!(event.key in STEPS)) return;
    event.preventDefault();
    this._read(epoch);
  }

  _read(epoch) {
    this.epoch = epoch === null ? null : Math.min(this.lastEpoch, Math.max(1, epoch));
    this.line.toggleAttribute("hidden", epoch === null);
    const now = this.epoch ?? this.lastEpoch, text = this.describe(now);
    this.chart.setAttribute("aria-valuenow", now);
    this.chart.setAttribute("aria-valuetext", text);
    setText(this.text, this.epoch === null ? HINT : text);
    if (this.epoch === null) return;
    for (const end of ["x1", "x2"]) this.line.setAttribute(end, this.marks.x(this.epoch));
  }
}
