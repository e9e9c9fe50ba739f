// Asking the server: errors as one line, trouble that passes tried again, and never more than one question of a kind.

/** What the server, or its absence, has to say. `passing`: asking again may help. */
export class Trouble extends Error {
  constructor(message, { passing = false } = {}) {
    super(message);
    this.passing = passing;
  }
}

let open = 0; // questions that are under way

function count(one) {
  open += one;
  document.getElementById("main").ariaBusy = String(open > 0);
}

/** Ask for JSON: GET, or POST if there is a body. While something is asked, the page says that it is busy. */
export async function ask(path, body, signal) {
  count(1);
  try {
    return await answerOf(path, body, signal);
  } finally {
    count(-1);
  }
}

async function answerOf(path, body, signal) {
  const how = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, { ...how, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer. Is inklab serve still running?", { passing: true });
  }
  const told = await answer.json().catch(() => null);
  if (answer.ok && told !== null) return told;
  const busy = [429, 502, 503, 504].includes(answer.status);
  const line = typeof told?.error === "string" ? told.error : `The server answered ${answer.status}.`;
  throw new Trouble(line, { passing: busy });
}

/**
 * One question in flight, and the newest one next: what was asked in between is left out.
 *
 * So a hand that draws, or a slider that moves, is answered as fast as the server can, and never late.
 */
export class Newest {
  /** @param answered called with (answer, question); @param failed with a Trouble, or null when it is over. */
  constructor(path, answered, failed) {
    Object.assign(this, { path, answered, failed, next: null, flight: null, waits: 0, timer: 0 });
  }

  ask(question) {
    this.next = question;
    if (!this.flight && !this.timer) this._go();
  }

  /** Forget what was asked: nothing that is under way is answered any more. */
  cancel() {
    this.next = null;
    clearTimeout(this.timer);
    this.timer = 0;
    this.flight?.abort();
    this.flight = null;
  }

  /** Try again at once what trouble held up. */
  retry() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this._go();
  }

  async _go() {
    const question = this.next;
    if (question === null) return;
    this.next = null;
    const flight = (this.flight = new AbortController());
    try {
      const answer = await ask(this.path, question, flight.signal);
      if (this.flight !== flight) return;
      this.waits = 0;
      this.failed(null);
      this.answered(answer, question);
    } catch (error) {
      if (this.flight !== flight) return;
      this._trouble(error, question);
    }
    this.flight = null;
    if (this.next !== null && !this.timer) this._go();
  }

  _trouble(error, question) {
    if (!(error instanceof Trouble)) throw error;
    this.failed(error);
    if (!error.passing) return;
    this.next ??= question;
    this.waits = Math.min(8000, Math.max(500, 2 * this.waits));
    this.timer = setTimeout(() => this.retry(), this.waits);
  }
}

/** The one place on the page where trouble is shown, and from where it is tried again. */
export class Complaints {
  constructor(place, button) {
    Object.assign(this, { place, button, open: new Map() });
    button.addEventListener("click", () => this.open.forEach((_, who) => who.retry?.()));
  }

  /** @param who whom it concerns, such as a Newest; null as error: it is over. */
  show(who, error) {
    if (error) this.open.set(who, error);
    else this.open.delete(who);
    const first = [...this.open.values()][0];
    this.place.hidden = !first;
    if (first && this.place.firstChild.textContent !== first.message) this.place.firstChild.textContent = first.message;
    this.button.hidden = !first?.passing;
  }
}
