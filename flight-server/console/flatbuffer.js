// FlatBuffers, as far as the messages of Arrow need them: a table's fields are found by their numbers in its schema.
// https://flatbuffers.dev/internals

/** A table in a buffer. A field that is left out has the value that is given for it. */
export class Table {
  #view;
  #at;

  constructor(view, at) {
    this.#view = view;
    this.#at = at;
  }

  /** The table that a whole buffer is. */
  static of(view) {
    return new Table(view, view.getUint32(0, true));
  }

  byte(number) {
    return this.#number("getUint8", number, 0);
  }

  short(number, otherwise = 0) {
    return this.#number("getInt16", number, otherwise);
  }

  int(number, otherwise = 0) {
    return this.#number("getInt32", number, otherwise);
  }

  /** A number of 64 bits that is a length, and so is exact as a double. */
  long(number) {
    return Number(this.#number("getBigInt64", number, 0));
  }

  text(number) {
    const at = this.#target(number);
    const length = at && this.#view.getUint32(at, true);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(this.#view.buffer, at + 4, length));
  }

  /** The table that a field refers to, or null. */
  table(number) {
    const at = this.#target(number);
    return at ? new Table(this.#view, at) : null;
  }

  /** The tables of a list. */
  tables(number) {
    return this.#items(number, 4, (at) => new Table(this.#view, at + this.#view.getUint32(at, true)));
  }

  /** Pairs of numbers of 64 bits, which lie in a list one after the other. */
  pairs(number) {
    const long = (at) => Number(this.#view.getBigInt64(at, true));
    return this.#items(number, 16, (at) => [long(at), long(at + 8)]);
  }

  #number(read, number, otherwise) {
    const at = this.#place(number);
    return at ? this.#view[read](at, true) : otherwise;
  }

  #items(number, bytes, read) {
    const at = this.#target(number);
    const length = at && this.#view.getUint32(at, true);
    return Array.from({ length }, (_, index) => read(at + 4 + index * bytes));
  }

  /** Where a field is; 0 where it is left out. */
  #place(number) {
    const fields = this.#at - this.#view.getInt32(this.#at, true);
    const slot = 4 + 2 * number;
    const offset = slot < this.#view.getUint16(fields, true) ? this.#view.getUint16(fields + slot, true) : 0;
    return offset && this.#at + offset;
  }

  /** What a field refers to. */
  #target(number) {
    const at = this.#place(number);
    return at && at + this.#view.getUint32(at, true);
  }
}
