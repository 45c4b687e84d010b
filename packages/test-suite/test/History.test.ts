import type * as Compare from "@effect-kv/core/Compare"
import type { Value } from "@effect-kv/core/Entry"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import { integer, oneOf, weighted } from "../src/internal/choices.ts"

const text = oneOf(["a", "", "\u0000", "\n", "\"", "\u2028", "\ud800", "\u{10ffff}", "{\"bytes\":\"AA==\"}", "\ufeff"])

const value: Arbitrary.Arbitrary<Value> = weighted<Value>(
  [2, text],
  [1, oneOf([Uint8Array.of(0xff), Uint8Array.of(0, 255, 128), Uint8Array.of(0xc3)])]
)

const bigint: Arbitrary.Arbitrary<bigint> = oneOf([0n, 1n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)])

const boolean = oneOf([false, true])

/** An optional property. */
const optional = <K extends string, A>(key: K, arbitrary: Arbitrary.Arbitrary<A>) =>
  weighted<{ readonly [_ in K]?: A }>(
    [1, Arbitrary.Constant({})],
    [1, Arbitrary.map(arbitrary, (value) => ({ [key]: value }) as { readonly [_ in K]?: A })]
  )

const merged = <A extends object, B extends object>(a: Arbitrary.Arbitrary<A>, b: Arbitrary.Arbitrary<B>) =>
  Arbitrary.map(Arbitrary.all([a, b]), ([x, y]) => ({ ...x, ...y }))

const tagged = <Tag extends string, A extends object>(_tag: Tag, arbitrary: Arbitrary.Arbitrary<A>) =>
  Arbitrary.map(arbitrary, (fields) => ({ _tag, ...fields }))

const list = <A>(arbitrary: Arbitrary.Arbitrary<A>) => Arbitrary.array(arbitrary, { maxLength: 2 })

const moment: Arbitrary.Arbitrary<History.Moment> = Arbitrary.all({ order: integer(0, 1e9), nanos: bigint })

const range = oneOf([KeyRange.key("a"), KeyRange.all, KeyRange.closed("a", "\ud800"), KeyRange.prefix("\n")])

const row: Arbitrary.Arbitrary<History.Row> = Arbitrary.all({
  key: text,
  value,
  createRevision: bigint,
  modRevision: bigint,
  version: integer(-1, 9),
  lease: bigint
})

const operator = oneOf(["=", "!=", "<", ">"] as const)

const compare: Arbitrary.Arbitrary<Compare.Compare> = weighted<Compare.Compare>(
  [1, Arbitrary.all({ target: Arbitrary.Constant("Value" as const), key: text, operator, value })],
  [1, Arbitrary.all({ target: Arbitrary.Constant("Version" as const), key: text, operator, value: oneOf([1, 0.5]) })],
  [
    1,
    Arbitrary.all({
      target: oneOf(["CreateRevision", "ModRevision", "Lease"] as const),
      key: text,
      operator,
      value: bigint
    })
  ],
  [1, Arbitrary.all({ target: Arbitrary.Constant("CreatedBefore" as const), range, revision: bigint })]
)

const single: Arbitrary.Arbitrary<Op.Op> = weighted<Op.Op>(
  [
    1,
    tagged(
      "Range",
      merged(
        Arbitrary.all({ range }),
        merged(
          optional("limit", oneOf([1, Number.NaN, Number.POSITIVE_INFINITY])),
          merged(
            optional("order", oneOf([{ by: "version" }, { by: "key", direction: "descending" }] as const)),
            merged(optional("revision", bigint), optional("keysOnly", boolean))
          )
        )
      )
    )
  ],
  [1, tagged("Put", merged(Arbitrary.all({ key: text, value }), optional("lease", bigint)))],
  [1, tagged("Delete", merged(Arbitrary.all({ range }), optional("previous", boolean)))]
)

const txnOf = (op: Arbitrary.Arbitrary<Op.Op>): Arbitrary.Arbitrary<Op.Op> =>
  tagged("Txn", Arbitrary.all({ if: list(compare), then: list(op), else: list(op) }))

const op = weighted([2, single], [1, txnOf(weighted([2, single], [1, txnOf(single)]))])

const singleResponse: Arbitrary.Arbitrary<History.OpResponse> = weighted<History.OpResponse>(
  [1, tagged("Range", Arbitrary.all({ revision: bigint, entries: list(row), count: integer(0, 9), more: boolean }))],
  [1, tagged("Put", merged(Arbitrary.all({ revision: bigint }), optional("previous", row)))],
  [1, tagged("Delete", Arbitrary.all({ revision: bigint, deleted: integer(0, 9), previous: list(row) }))]
)

const opResponse = weighted<History.OpResponse>(
  [2, singleResponse],
  [1, tagged("Txn", Arbitrary.all({ revision: bigint, succeeded: boolean, responses: list(singleResponse) }))]
)

const failure: Arbitrary.Arbitrary<History.Failure> = tagged(
  "Failed",
  Arbitrary.all({
    reason: oneOf(["Unavailable", "Indeterminate", "LockLost"] as const),
    outcome: oneOf(["NotApplied", "Unknown"] as const),
    message: text
  })
)

const millis = oneOf([0, 1500, Number.POSITIVE_INFINITY])

const response: Arbitrary.Arbitrary<History.Response> = weighted<History.Response>(
  [3, opResponse],
  [1, tagged("Lease", Arbitrary.all({ id: bigint, ttlMillis: millis }))],
  [1, Arbitrary.Constant({ _tag: "LeaseRevoked" })],
  [
    1,
    tagged(
      "LeaseStatus",
      Arbitrary.all({ id: bigint, grantedTtlMillis: millis, remainingMillis: millis, keys: list(text) })
    )
  ]
)

const outcome: Arbitrary.Arbitrary<History.Outcome> = weighted<History.Outcome>(
  [3, tagged("Responded", Arbitrary.all({ response }))],
  [1, failure],
  [1, oneOf<History.Outcome>([{ _tag: "Interrupted" }, { _tag: "Died", message: "why" }, { _tag: "Pending" }])]
)

const request: Arbitrary.Arbitrary<History.Request> = weighted<History.Request>(
  [3, tagged("Execute", Arbitrary.all({ op }))],
  [1, tagged("LeaseGrant", merged(Arbitrary.all({ ttlMillis: millis }), optional("id", bigint)))],
  [1, Arbitrary.all({ _tag: oneOf(["LeaseKeepAlive", "LeaseRevoke"] as const), id: bigint })],
  [1, tagged("LeaseTimeToLive", Arbitrary.all({ id: bigint, keys: boolean }))]
)

const who = Arbitrary.all({ id: integer(0, 1e9), client: text })

const call: Arbitrary.Arbitrary<History.Call> = tagged(
  "Call",
  merged(merged(who, Arbitrary.all({ request, invoked: moment, outcome })), optional("completed", moment))
)

const event: Arbitrary.Arbitrary<History.Event> = weighted<History.Event>(
  [
    2,
    tagged(
      "Put",
      merged(Arbitrary.all({ key: text, revision: bigint, entry: row, isCreate: boolean }), optional("previous", row))
    )
  ],
  [1, tagged("Delete", merged(Arbitrary.all({ key: text, revision: bigint }), optional("previous", row)))]
)

type End = NonNullable<History.WatchCall["ended"]>

const watch: Arbitrary.Arbitrary<History.WatchCall> = tagged(
  "Watch",
  merged(
    merged(
      who,
      Arbitrary.all({
        request: merged(Arbitrary.all({ range }), optional("startRevision", bigint)),
        invoked: moment,
        batches: list(Arbitrary.all({ at: moment, revision: bigint, events: list(event) }))
      })
    ),
    merged(
      optional("confirmed", Arbitrary.all({ at: moment, revision: bigint })),
      optional(
        "ended",
        Arbitrary.all({
          at: moment,
          how: weighted<End["how"]>(
            [1, oneOf<End["how"]>([{ _tag: "Closed" }, { _tag: "Interrupted" }, { _tag: "Died", message: "" }])],
            [1, merged(failure, optional("compactRevision", bigint))]
          )
        })
      )
    )
  )
)

const holding: Arbitrary.Arbitrary<History.Holding> = tagged(
  "Holding",
  merged(
    merged(who, Arbitrary.all({ lock: text, token: bigint, acquired: moment })),
    optional("ended", Arbitrary.all({ at: moment, how: oneOf(["Released", "Lost"] as const) }))
  )
)

const effect: Arbitrary.Arbitrary<History.FencedEffect> = tagged(
  "Effect",
  merged(
    merged(
      who,
      Arbitrary.all({
        lock: text,
        token: bigint,
        resource: text,
        invoked: moment,
        outcome: oneOf(["Accepted", "Rejected", "Unknown"] as const)
      })
    ),
    merged(optional("completed", moment), optional("revision", bigint))
  )
)

const history: Arbitrary.Arbitrary<History.History> = Arbitrary.all({
  calls: list(call),
  watches: list(watch),
  holdings: list(holding),
  effects: list(effect)
})

describe("History", () => {
  it.effect.prop(
    "a history is the same after saving and loading, whatever it contains",
    [history],
    ([history]) =>
      Effect.map(History.fromText(History.toText(history)), (loaded) => assert.deepStrictEqual(loaded, history)),
    { arbitrary: { runs: 300 } }
  )

  it("the text of a history has one line for each record", () => {
    const moment = { order: 0, nanos: 1n }
    const call: History.Call = {
      _tag: "Call",
      id: 0,
      client: "a",
      request: { _tag: "Execute", op: { _tag: "Put", key: "a", value: "line\nbreak" } },
      invoked: moment,
      outcome: { _tag: "Pending" }
    }
    assert.strictEqual(History.toText({ ...History.empty, calls: [call, call] }).trim().split("\n").length, 3)
  })

  it.effect("the error of an invalid text names the line", () =>
    Effect.gen(function*() {
      const [header] = History.toText(History.empty).split("\n")
      for (
        const [text, message] of [
          ["", "empty"],
          ["{}\n", "line 1"],
          ["nonsense", "line 1"],
          [`${header}\n\n{"_tag":"Call"}\n`, "line 3"],
          [`${header}\nnonsense\n`, "line 2"]
        ] as const
      ) {
        const error = yield* Effect.flip(History.fromText(text))
        assert.strictEqual(error._tag, "HistoryUnreadable")
        assert.include(error.message, message)
      }
    }))
})
