// What is not answered, and why.

/** In the server's words: a sentence, what to do about it, and a code. */
export class Refusal extends Error {
  constructor(message, { hint = "", code = "" } = {}) {
    super(message);
    this.hint = hint;
    this.code = code;
  }
}

/** What a promise of the network gives. What goes wrong there browsers tell in words of their own, which say little. */
export async function reached(promise) {
  return promise.catch((error) => {
    throw error.name === "AbortError" ? error : brokenOff();
  });
}

/** An answer that ended before its end, or never began. */
export function brokenOff() {
  const hint = "see whether `lakebed serve` still runs, and ask again";
  return new Refusal("the server cannot be reached, or broke the answer off", { hint });
}
