/**
 * Types of the public API. `tsc` checks them; the runner only counts them.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { execute, type KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { describe, expectTypeOf, it } from "@effect/vitest"
import type * as Effect from "effect/Effect"

declare const kv: Kv.Kv
declare const backend: KvBackend

/** The success type of a program, which is never run. */
type SuccessOf<F extends () => Effect.Effect<unknown, unknown>> = Effect.Success<ReturnType<F>>

describe("the type of a response", () => {
  it("is that of its operation", () => {
    expectTypeOf<Op.Response<Op.Range>>().toEqualTypeOf<Op.RangeResponse>()
    expectTypeOf<Op.Response<Op.Put>>().toEqualTypeOf<Op.PutResponse>()
    expectTypeOf<Op.Response<Op.Delete>>().toEqualTypeOf<Op.DeleteResponse>()
    expectTypeOf<Op.Response<Op.Put | Op.Range>>().toEqualTypeOf<Op.PutResponse | Op.RangeResponse>()
    const get = () => execute(backend, Op.get("k"))
    const put = () => execute(backend, Op.put("k", "v"))
    expectTypeOf<SuccessOf<typeof get>>().toEqualTypeOf<Op.RangeResponse>()
    expectTypeOf<SuccessOf<typeof put>>().toEqualTypeOf<Op.PutResponse>()
    expectTypeOf(get).returns.toEqualTypeOf<Effect.Effect<Op.RangeResponse, KvError>>()
  })

  it("of a txn is the tuple of its operations' responses, by the branch that ran", () => {
    const program = () =>
      kv.txn({
        if: [Compare.exists("k")],
        then: [Op.put("k", "v"), Op.get("k"), Op.deleteRange(KeyRange.all)],
        else: [Op.range(KeyRange.all)]
      })
    type Txn = SuccessOf<typeof program>
    expectTypeOf<Extract<Txn, { succeeded: true }>["responses"]>().toEqualTypeOf<
      readonly [Op.PutResponse, Op.RangeResponse, Op.DeleteResponse]
    >()
    expectTypeOf<Extract<Txn, { succeeded: false }>["responses"]>().toEqualTypeOf<readonly [Op.RangeResponse]>()
    expectTypeOf<Txn["succeeded"]>().toEqualTypeOf<boolean>()
    expectTypeOf<Txn["revision"]>().toEqualTypeOf<bigint>()
  })

  it("of a nested txn is typed at every depth", () => {
    const program = () =>
      kv.txn({ then: [Op.txn({ then: [Op.txn({ else: [Op.put("a", "v"), Op.get("a")] })] }), Op.delete("b")] })
    type Outer = Extract<SuccessOf<typeof program>, { succeeded: true }>["responses"]
    expectTypeOf<Outer["length"]>().toEqualTypeOf<2>()
    type Middle = Extract<Outer[0], { succeeded: true }>["responses"]
    type Inner = Extract<Middle[0], { succeeded: false }>["responses"]
    expectTypeOf<Inner>().toEqualTypeOf<readonly [Op.PutResponse, Op.RangeResponse]>()
    expectTypeOf<Outer[1]>().toEqualTypeOf<Op.DeleteResponse>()
  })

  it("of a branch that was left out is empty", () => {
    const program = () => kv.txn({ then: [Op.get("k")] })
    expectTypeOf<Extract<SuccessOf<typeof program>, { succeeded: false }>["responses"]>().toEqualTypeOf<readonly []>()
    const empty = () => kv.txn({})
    expectTypeOf<SuccessOf<typeof empty>["responses"]>().toEqualTypeOf<readonly []>()
  })

  it("of operations that are made at run time is an array", () => {
    const program = (keys: ReadonlyArray<string>) => kv.txn({ then: keys.map((key) => Op.get(key)) })
    type Responses = Extract<Effect.Success<ReturnType<typeof program>>, { succeeded: true }>["responses"]
    expectTypeOf<Responses[number]>().toEqualTypeOf<Op.RangeResponse>()
  })

  it("of a txn as a value keeps its operations", () => {
    const txn = Op.txn({ then: [Op.put("k", "v")], else: [Op.get("k")] })
    expectTypeOf(txn).toEqualTypeOf<Op.Txn<readonly [Op.Put], readonly [Op.Range]>>()
    expectTypeOf(txn).toExtend<Op.Op>()
    const program = () => execute(backend, txn)
    expectTypeOf<SuccessOf<typeof program>>().toEqualTypeOf<Op.TxnResponse<readonly [Op.Put], readonly [Op.Range]>>()
  })

  it("can be narrowed by its tag if the operation is any", () => {
    const any = (op: Op.Op) => execute(backend, op)
    type Any = Effect.Success<ReturnType<typeof any>>
    expectTypeOf<Any["_tag"]>().toEqualTypeOf<"Range" | "Put" | "Delete" | "Txn">()
  })

  it("every method fails with KvError and requires no services", () => {
    expectTypeOf<Kv.Kv["modify"]>().returns.toEqualTypeOf<Effect.Effect<string, KvError>>()
    expectTypeOf<Kv.Kv["testAndSet"]>().returns.toEqualTypeOf<Effect.Effect<boolean, KvError>>()
    expectTypeOf<Kv.Kv["count"]>().returns.toEqualTypeOf<Effect.Effect<number, KvError>>()
  })

  it("invalid calls do not compile", () => {
    // @ts-expect-error a key is a string
    const _key = () => kv.get(1)
    // @ts-expect-error a revision is a bigint
    const _revision = () => kv.get("k", { revision: 1 })
    // @ts-expect-error a value is text or bytes
    const _value = () => kv.put("k", 1)
    // @ts-expect-error a version is a number
    const _version = () => Compare.version("k", "=", 1n)
    // @ts-expect-error a mod revision is a bigint
    const _modRevision = () => Compare.modRevision("k", "=", 1)
    // @ts-expect-error an operator is one of four
    const _operator = () => Compare.value("k", ">=", "v")
    // @ts-expect-error an operation is one of four
    const _op = () => kv.txn({ then: [{ _tag: "Get", key: "k" }] })
    // @ts-expect-error there is one response
    const _tuple = (responses: Op.Responses<readonly [Op.Put]>) => responses[1]
  })
})
