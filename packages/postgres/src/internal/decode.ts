/**
 * The response to an operation, from the items that the store returned.
 */
import type * as Entry from "@effect-kv/core/Entry"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { entryOf, type Item, kind, nOf } from "./items.ts"

/** Decodes the items of an operation that was not rejected. All responses have the revision of the last item. */
export const decode = (op: Op.Op, items: ReadonlyArray<Item>): Op.Response<Op.Op> =>
  new Reader(items, nOf(items[items.length - 1]!)).response(op)

/** Reads the items in the order in which the store executed the operations. */
class Reader {
  readonly #items: ReadonlyArray<Item>
  readonly #revision: bigint
  #position = 0

  constructor(items: ReadonlyArray<Item>, revision: bigint) {
    this.#items = items
    this.#revision = revision
  }

  response(op: Op.Op): Op.Response<Op.Op> {
    const revision = this.#revision
    if (op._tag === "Txn") {
      const succeeded = this.#next()[1] === true
      const responses = (succeeded ? op.then : op.else).map((inner) => this.response(inner))
      return Op.txnResponse({ revision, succeeded, responses })
    }
    const entries: Array<Entry.Entry> = []
    let item = this.#next()
    for (; item[0] === kind.entry; item = this.#next()) entries.push(entryOf(item))
    switch (op._tag) {
      case "Range":
        return Op.rangeResponse({ revision, entries, count: Number(nOf(item)), more: item[1] === true })
      case "Put":
        return Op.putResponse({ revision, previous: Option.fromUndefinedOr(entries[0]) })
      case "Delete":
        return Op.deleteResponse({ revision, deleted: Number(nOf(item)), previous: entries })
    }
  }

  #next(): Item {
    return this.#items[this.#position++]!
  }
}
