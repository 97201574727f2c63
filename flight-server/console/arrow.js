// An Arrow IPC stream, read as it comes. Unlike JSON it has the types of all columns, and every digit.
// https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format

import { Table } from "./flatbuffer.js";
import { brokenOff, reached } from "./refusal.js";
import { columnReader, describe } from "./values.js";

const CONTINUATION = 0xffffffff;
const SCHEMA = 1;
const RECORD_BATCH = 3;

/**
 * Reads a stream. The first that is given are the columns, `[{name, type, isNumber}]`, then for each batch its rows:
 * lists of texts, with null for NULL.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @param {{most: number}} limit rows of which texts are made; of a batch that has more, the rest is left.
 */
export async function* readStream(body, { most }) {
  const incoming = new Incoming(body);
  let fields = null;
  let left = most;
  for (;;) {
    const message = await nextMessage(incoming);
    if (!message) break;
    if (message.kind === SCHEMA) {
      fields = message.header.tables(1).map(field);
      yield fields.map(describe);
    } else if (message.kind === RECORD_BATCH) {
      const rows = rowsOf(fields, message, left);
      left -= rows.length;
      yield rows;
    } else {
      throw new Error(`the answer has a message of kind ${message.kind}, which is not known here`);
    }
  }
}

/** The next message: what it is, its header and its body; null at the end of the stream. */
async function nextMessage(incoming) {
  let length = (await incoming.view(4)).getUint32(0, true);
  if (length === CONTINUATION) length = (await incoming.view(4)).getUint32(0, true);
  if (length === 0) return null;
  const message = Table.of(await incoming.view(length));
  return { kind: message.byte(1), header: message.table(2), body: await incoming.view(message.long(3)) };
}

/** What a schema says of a column or of a part of one. */
function field(table) {
  const metadata = table.tables(6).map((pair) => [pair.text(0), pair.text(1)]);
  return {
    name: table.text(0),
    kind: table.byte(2),
    type: table.table(3),
    isDictionary: table.table(4) !== null,
    children: table.tables(5).map(field),
    metadata: Object.fromEntries(metadata),
  };
}

/** The rows of a batch, no more than `most`. */
function rowsOf(fields, { header, body }, most) {
  if (header.table(3)) throw new Error("the answer is compressed, which is not read here");
  const parts = { nodes: header.pairs(1).values(), buffers: header.pairs(2).values(), body };
  const columns = fields.map((of) => columnReader(of, parts));
  const count = Math.min(header.long(0), most);
  return Array.from({ length: count }, (_, row) => columns.map((column) => column.text(row)));
}

/** Bytes as they come, given out in the pieces that are asked for. */
class Incoming {
  #reader;
  #chunks = [];
  #length = 0;

  constructor(body) {
    this.#reader = body.getReader();
  }

  /** So many bytes, which nobody else has. */
  async view(count) {
    while (this.#length < count) {
      const { done, value } = await reached(this.#reader.read());
      if (done) throw brokenOff();
      this.#chunks.push(value);
      this.#length += value.length;
    }
    const bytes = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      const chunk = this.#chunks[0];
      const taken = chunk.subarray(0, count - filled);
      bytes.set(taken, filled);
      filled += taken.length;
      if (taken.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(taken.length);
    }
    this.#length -= count;
    return new DataView(bytes.buffer);
  }
}
