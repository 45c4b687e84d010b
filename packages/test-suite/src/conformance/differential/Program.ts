/**
 * Random programs for differential tests. They mean the same on every store, whatever its revision and its lease ids.
 *
 * Keys come from a small set, so that commands affect the same keys. Some are hostile, some invalid. Revisions are relative
 * to the latest one of the store, and leases are named by the slot into which a command has stored them.
 */
import type { Operator } from "@effect-kv/core/Compare"
import type { Value } from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { OrderBy } from "@effect-kv/core/Op"
import * as Arbitrary from "effect/Arbitrary"
import { integer, oneOf, sometimes, weighted } from "../../internal/choices.ts"

/** This many revisions before the latest, or after it if negative; or an impossible revision. */
export type Revision = number | "zero" | "negative" | "huge"

/** The lease in a slot, or one that never existed. */
export type LeaseSlot = number | "unknown"

/** A read. */
export interface Read {
  readonly limit?: number | undefined
  readonly by?: OrderBy | undefined
  readonly descending?: boolean | undefined
  readonly keysOnly?: boolean | undefined
  readonly countOnly?: boolean | undefined
  readonly serializable?: boolean | undefined
  readonly revision?: Revision | undefined
  readonly minModRevision?: Revision | undefined
  readonly maxModRevision?: Revision | undefined
  readonly minCreateRevision?: Revision | undefined
  readonly maxCreateRevision?: Revision | undefined
}

/** A condition. */
export type Condition =
  | { readonly on: "value"; readonly key: string; readonly operator: Operator; readonly value: Value }
  | { readonly on: "version"; readonly key: string; readonly operator: Operator; readonly value: number }
  | {
    readonly on: "createRevision" | "modRevision"
    readonly key: string
    readonly operator: Operator
    readonly value: Revision
  }
  // A store chooses its lease ids, so their order is not comparable between stores.
  | { readonly on: "lease"; readonly key: string; readonly operator: Operator; readonly value: LeaseSlot | "none" }
  | { readonly on: "createdBefore"; readonly range: KeyRange.KeyRange; readonly revision: Revision }

/** An operation. */
export type Operation =
  | { readonly do: "range"; readonly range: KeyRange.KeyRange; readonly read: Read }
  | {
    readonly do: "put"
    readonly key: string
    readonly value: Value
    readonly lease?: LeaseSlot | undefined
    readonly previous?: boolean | undefined
  }
  | { readonly do: "delete"; readonly range: KeyRange.KeyRange; readonly previous?: boolean | undefined }
  | {
    readonly do: "txn"
    readonly if: ReadonlyArray<Condition>
    readonly then: ReadonlyArray<Operation>
    readonly else: ReadonlyArray<Operation>
  }

/**
 * One step of a program.
 *
 * @since 0.1.0
 */
export type Command =
  | Operation
  | { readonly do: "testAndSet"; readonly key: string; readonly expected?: Value | undefined; readonly value: Value }
  | { readonly do: "compareAndSet"; readonly key: string; readonly revision: Revision; readonly value: Value }
  | { readonly do: "modify"; readonly key: string }
  | {
    readonly do: "stream"
    readonly range: KeyRange.KeyRange
    readonly pageSize: number
    readonly revision?: Revision | undefined
  }
  | { readonly do: "grant"; readonly slot: number; readonly ownId: boolean }
  | { readonly do: "grantAndRevoke"; readonly seconds: number }
  | { readonly do: "keepAlive" | "revoke"; readonly lease: LeaseSlot }
  | { readonly do: "timeToLive"; readonly lease: LeaseSlot; readonly keys: boolean }
  | { readonly do: "compact"; readonly revision: Revision }
  | { readonly do: "manyOperations"; readonly outer: number; readonly inner: number }
  | {
    readonly do: "replay"
    readonly range: KeyRange.KeyRange
    readonly from: Revision
    readonly previous: boolean
    readonly only?: "Put" | "Delete" | undefined
  }

/**
 * Commands that run one after the other.
 *
 * @since 0.1.0
 */
export type Program = ReadonlyArray<Command>

// -----------------------------------------------------------------------------
// keys and values
// -----------------------------------------------------------------------------

const goodKeys = [
  "a",
  "ab",
  "b",
  "a\u0000",
  "\u0000",
  "a\u007f",
  "\u00ff",
  "\ud7ff",
  "\uffff",
  "\u{10000}",
  "\u{10ffff}",
  "a/b"
]
const badKeys = ["", "\ud800", "a\udc00", "\udc00\ud800"]

const key = weighted([30, oneOf(goodKeys)], [1, oneOf(badKeys)])

const bound = weighted([25, oneOf([...goodKeys, ""])], [1, oneOf(badKeys)])

const range: Arbitrary.Arbitrary<KeyRange.KeyRange> = weighted(
  [4, Arbitrary.map(key, KeyRange.key)],
  [4, Arbitrary.map(bound, KeyRange.prefix)],
  [3, Arbitrary.map(bound, KeyRange.from)],
  [4, Arbitrary.Constant(KeyRange.all)],
  [3, Arbitrary.map(Arbitrary.all([bound, bound]), ([start, end]) => KeyRange.halfOpen(start, end))],
  [3, Arbitrary.map(Arbitrary.all([bound, bound]), ([start, end]) => KeyRange.closed(start, end))],
  [
    1,
    Arbitrary.map(
      Arbitrary.all([bound, bound]),
      ([prefix, from]): KeyRange.KeyRange => ({ _tag: "Prefix", prefix, from })
    )
  ]
)

const value: Arbitrary.Arbitrary<Value> = weighted(
  [30, oneOf<Value>(["v", "w", "", "\u00e9", "\ufeff", "\u0000", "vv", "\u{10000}"])],
  [
    8,
    oneOf<Value>([
      Uint8Array.of(0),
      Uint8Array.of(0x76),
      Uint8Array.of(0x7f),
      Uint8Array.of(0x80, 0xff),
      new Uint8Array(0)
    ])
  ],
  [1, oneOf<Value>(["\ud800", "v\udc00"])]
)

const revision: Arbitrary.Arbitrary<Revision> = weighted<Revision>(
  [12, integer(0, 6)],
  [4, integer(0, 25)],
  [1, integer(-3, -1)],
  [1, oneOf<Revision>(["zero", "negative", "huge"])]
)

const slots = [0, 1, 2] as const

const leaseSlot: Arbitrary.Arbitrary<LeaseSlot> = weighted<LeaseSlot>([12, oneOf(slots)], [
  1,
  Arbitrary.Constant("unknown")
])

const boolean = oneOf([false, true])

// -----------------------------------------------------------------------------
// operations
// -----------------------------------------------------------------------------

const read: Arbitrary.Arbitrary<Read> = Arbitrary.all({
  limit: sometimes(3, weighted([12, integer(1, 4)], [1, oneOf([0, -1, 1.5])])),
  by: sometimes(3, oneOf<OrderBy>(["key", "createRevision", "modRevision", "version"])),
  descending: sometimes(2, boolean),
  keysOnly: sometimes(5, boolean),
  countOnly: sometimes(8, boolean),
  serializable: sometimes(6, boolean),
  revision: sometimes(3, revision),
  minModRevision: sometimes(8, revision),
  maxModRevision: sometimes(8, revision),
  minCreateRevision: sometimes(8, revision),
  maxCreateRevision: sometimes(8, revision)
})

const operator = oneOf<Operator>(["=", "!=", "<", ">"])

const condition: Arbitrary.Arbitrary<Condition> = weighted<Condition>(
  [3, Arbitrary.all({ on: Arbitrary.Constant("value"), key, operator, value })],
  [
    2,
    Arbitrary.all({
      on: Arbitrary.Constant("version"),
      key,
      operator,
      value: weighted([20, integer(-1, 4)], [1, oneOf([0.5])])
    })
  ],
  [3, Arbitrary.all({ on: oneOf(["createRevision", "modRevision"] as const), key, operator, value: revision })],
  [
    1,
    Arbitrary.all({ on: Arbitrary.Constant("lease"), key, operator: oneOf<Operator>(["=", "!="]), value: leaseSlot })
  ],
  [1, Arbitrary.all({ on: Arbitrary.Constant("lease"), key, operator, value: Arbitrary.Constant("none") })],
  [1, Arbitrary.all({ on: Arbitrary.Constant("createdBefore"), range, revision })]
)

const rangeOperation: Arbitrary.Arbitrary<Operation> = Arbitrary.all({ do: Arbitrary.Constant("range"), range, read })

const put: Arbitrary.Arbitrary<Operation> = Arbitrary.all({
  do: Arbitrary.Constant("put"),
  key,
  value,
  lease: sometimes(4, leaseSlot),
  previous: sometimes(3, boolean)
})

const deletion: Arbitrary.Arbitrary<Operation> = Arbitrary.all({
  do: Arbitrary.Constant("delete"),
  range: weighted([3, Arbitrary.map(key, KeyRange.key)], [1, range]),
  previous: sometimes(2, boolean)
})

const single = weighted<Operation>([4, put], [2, rangeOperation], [2, deletion])

const txnOf = (operation: Arbitrary.Arbitrary<Operation>): Arbitrary.Arbitrary<Operation> =>
  Arbitrary.all({
    do: Arbitrary.Constant("txn"),
    if: Arbitrary.array(condition, { maxLength: 2 }),
    then: Arbitrary.array(operation, { maxLength: 4 }),
    else: Arbitrary.array(operation, { maxLength: 4 })
  })

const txn = txnOf(weighted<Operation>([6, single], [1, txnOf(weighted([6, single], [1, txnOf(single)]))]))

/** A transaction as recipes make it: on the revision of a key it reads the newest key of a queue and writes one key. */
const recipeTxn: Arbitrary.Arbitrary<Operation> = Arbitrary.map(
  Arbitrary.all({
    on: oneOf(["createRevision", "modRevision"] as const),
    key,
    value: weighted<Revision>([3, Arbitrary.Constant("zero")], [4, revision]),
    queue: sometimes(2, range),
    write: weighted([2, put], [1, deletion]),
    isOfAnotherKey: sometimes(4, Arbitrary.Constant(true))
  }),
  ({ isOfAnotherKey, key, on, queue, value, write }): Operation => ({
    do: "txn",
    if: [{ on, key, operator: "=", value }],
    then: [
      ...(queue === undefined ? [] : [newestOf(queue)]),
      isOfAnotherKey === true ? write : writeOf(key, write)
    ],
    else: []
  })
)

const newestOf = (range: KeyRange.KeyRange): Operation => ({
  do: "range",
  range,
  read: { limit: 1, keysOnly: true, by: "createRevision", descending: true }
})

const writeOf = (key: string, write: Operation): Operation =>
  write.do === "put" ? { ...write, key } : write.do === "delete" ? { ...write, range: KeyRange.key(key) } : write

// -----------------------------------------------------------------------------
// commands
// -----------------------------------------------------------------------------

const command: Arbitrary.Arbitrary<Command> = weighted<Command>(
  [12, put],
  [10, rangeOperation],
  [6, deletion],
  [14, txn],
  [8, recipeTxn],
  [3, Arbitrary.all({ do: Arbitrary.Constant("testAndSet"), key, expected: sometimes(2, value), value })],
  [3, Arbitrary.all({ do: Arbitrary.Constant("compareAndSet"), key, revision, value })],
  [2, Arbitrary.all({ do: Arbitrary.Constant("modify"), key })],
  [
    2,
    Arbitrary.all({
      do: Arbitrary.Constant("stream"),
      range,
      pageSize: integer(1, 5),
      revision: sometimes(3, revision)
    })
  ],
  [5, Arbitrary.all({ do: Arbitrary.Constant("grant"), slot: oneOf(slots), ownId: boolean })],
  [
    1,
    Arbitrary.all({
      do: Arbitrary.Constant("grantAndRevoke"),
      seconds: oneOf([60, 1, 2, 0.5, 1.5, 3, 0, -1, 9e9, 9e9 + 1])
    })
  ],
  [3, Arbitrary.all({ do: oneOf(["revoke", "keepAlive"] as const), lease: leaseSlot })],
  [2, Arbitrary.all({ do: Arbitrary.Constant("timeToLive"), lease: leaseSlot, keys: boolean })],
  // Not 0, which is not a revision: etcd accepts such a compaction once if it was never compacted, and rejects it later.
  [
    2,
    Arbitrary.map(
      revision,
      (revision): Command => ({ do: "compact", revision: revision === "zero" ? "huge" : revision })
    )
  ],
  [1, Arbitrary.all({ do: Arbitrary.Constant("manyOperations"), outer: integer(0, 129), inner: integer(0, 129) })],
  [
    1,
    Arbitrary.all({
      do: Arbitrary.Constant("replay"),
      range,
      from: revision,
      previous: boolean,
      only: sometimes(3, oneOf(["Put", "Delete"] as const))
    })
  ]
)

/** Programs of about fifty commands. A failing program is shrunk by leaving out commands and parts of them. */
export const program: Arbitrary.Arbitrary<Program> = Arbitrary.array(command, { minLength: 1, maxLength: 100 })

/** A program as text, one line for each command. */
export const print = (program: Program): string =>
  program.map((command, i) => `${String(i + 1).padStart(3)}  ${printCommand(command)}`).join("\n")

/** A command on one line, without absent properties. Bytes and control characters are escaped. */
export const printCommand = (command: Command): string =>
  JSON.stringify(command, (_, part: unknown) => part instanceof Uint8Array ? `bytes ${part.join(" ")}` : part)
    .replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
