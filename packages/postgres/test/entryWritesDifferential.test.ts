/**
 * A differential test of the function for writes of one key: random programs must have the same results, and leave the same
 * history, as with the function for all transactions, also while leases are due that no client has ended yet.
 *
 * `EFFECT_KV_DIFFERENTIAL_RUNS` sets the number of programs, and `EFFECT_KV_DIFFERENTIAL_SEED` which they are.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EntryWrite from "../src/internal/entryWrite.ts"
import { connect, database } from "./support/store.ts"

const programs = Number(process.env["EFFECT_KV_DIFFERENTIAL_RUNS"] ?? 100)
const seed = Number(process.env["EFFECT_KV_DIFFERENTIAL_SEED"] ?? 1)

/** A generator of pseudo-random numbers (mulberry32). */
const random = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

/** Keys whose first kilobyte is the same, and one that is too long for a notification. */
const long = `q/${"x".repeat(1100)}`
const keys = ["a", "q/1", "q/2", "q/nul\0", `${long}1`, `${long}2`, "q/\u{10ffff}", `z${"y".repeat(3500)}`]
const ranges = [
  KeyRange.prefix("q/"),
  KeyRange.prefix(long),
  KeyRange.all,
  KeyRange.halfOpen("", "q/2"),
  KeyRange.from("q/2")
]
const leases = [11n, 12n, 13n]

type Step =
  | { readonly _tag: "Grant"; readonly lease: bigint }
  | { readonly _tag: "Due"; readonly leases: ReadonlyArray<bigint> }
  | { readonly _tag: "Op"; readonly op: Op.Op }

const newest = (range: KeyRange.KeyRange) =>
  Op.range(range, { limit: 1, keysOnly: true, order: { by: "createRevision", direction: "descending" } })

/** Of the entries that were read last, some revisions to compare with. */
const stepFrom = (
  next: () => number,
  revisions: ReadonlyMap<string, readonly [bigint, bigint]>,
  revision: bigint
): Step => {
  const pick = <A>(values: ReadonlyArray<A>): A => values[Math.floor(next() * values.length)]!
  const kind = next()
  if (kind < 0.08) return { _tag: "Grant", lease: pick(leases) }
  if (kind < 0.2) return { _tag: "Due", leases: leases.filter(() => next() < 0.5) }
  const key = pick(keys)
  const write = next() < 0.35
    ? Op.delete(key)
    : Op.put(
      key,
      pick(["", "v", new Uint8Array([0, 255]), "w".repeat(3000)]),
      next() < 0.6 ? { lease: pick(leases) } : {}
    )
  if (next() < 0.15) return { _tag: "Op", op: write }
  const target = next() < 0.85 ? key : pick(keys)
  const [created, modified] = revisions.get(target) ?? [0n, 0n]
  const isModified = next() < 0.5
  const wanted = pick([
    0n,
    isModified ? modified : created,
    isModified ? modified : created,
    created,
    modified,
    revision
  ])
  const condition = isModified ? Compare.modRevision(target, "=", wanted) : Compare.createRevision(target, "=", wanted)
  return {
    _tag: "Op",
    op: Op.txn({
      if: next() < 0.1 ? [] : [condition],
      then: next() < 0.5 ? [newest(pick(ranges)), write] : [write],
      else: []
    })
  }
}

/** The same operation as one that has no function of its own: under one more condition, which always holds. */
const always = Compare.version("never", "=", 0)

const viaWrite = (op: Op.Op): Op.Op =>
  op._tag === "Txn"
    ? Op.txn({ if: [...op.if, always, always], then: op.then, else: op.else })
    : Op.txn({ if: [always, always], then: [op], else: [] })

const store = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(`drop schema if exists ${schema} cascade`)
  const backend = backendOf(Context.get(yield* connect({ batching: false, schema }), Kv.Kv))
  yield* backend.execute(Op.range(KeyRange.all))
  const table = (columns: string, name: string) =>
    sql.unsafe(`select ${columns} from ${schema}.${name} x order by 1, 2`)
  return {
    execute: (op: Op.Op) => Effect.result(backend.execute(op)),
    grant: (id: bigint) => Effect.map(Effect.result(backend.leaseGrant({ ttl: "1 hour", id })), ({ _tag }) => _tag),
    makeDue: (ids: ReadonlyArray<bigint>) =>
      sql.unsafe(
        `update ${schema}.lease set expires_at = clock_timestamp() - interval '1 second' - id * interval '1 second'
        where id in (0${ids.map((id) => `, ${id}`).join("")})`
      ),
    // Its client sweeps every five seconds, if no write has ended the leases before. Then the results are the same.
    state: Effect.all([
      sql.unsafe(`select ${schema}.sweep()`),
      table("revision, sub, key, value, create_revision, version, lease, request is not null", "log"),
      table("key, value, create_revision, mod_revision, version, lease", "entry"),
      table("id, expires_at > clock_timestamp()", "lease"),
      table("revision, compacted", "store")
    ])
  }
})

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "10 minutes" })(
  "the function for writes of one key",
  (it) => {
    it.effect(
      `has the results of the function for all transactions in ${programs} random programs`,
      () =>
        Effect.gen(function*() {
          const sql = yield* PgClient.PgClient
          const [one, other] = [yield* store("entry_writes"), yield* store("writes")]
          const next = random(seed)
          let entryWrites = 0
          for (let program = 0; program < programs; program++) {
            for (const schema of ["entry_writes", "writes"]) {
              yield* sql.unsafe(`truncate ${schema}.log, ${schema}.entry, ${schema}.lease`)
            }
            const steps: Array<Step> = []
            const shown = () => JSON.stringify(steps, (_, value) => typeof value === "bigint" ? `${value}n` : value)
            let revision = 0n
            const revisions = new Map<string, readonly [bigint, bigint]>()
            for (let i = 0; i < 25; i++) {
              const step = stepFrom(next, revisions, revision)
              steps.push(step)
              switch (step._tag) {
                case "Grant": {
                  assert.strictEqual(yield* one.grant(step.lease), yield* other.grant(step.lease))
                  break
                }
                case "Due": {
                  yield* one.makeDue(step.leases)
                  yield* other.makeDue(step.leases)
                  break
                }
                case "Op": {
                  const same = viaWrite(step.op)
                  entryWrites += EntryWrite.of(step.op) === undefined ? 0 : 1
                  assert.isUndefined(EntryWrite.of(same))
                  const [a, b] = [yield* one.execute(step.op), yield* other.execute(same)]
                  assert.strictEqual(a._tag, b._tag, shown())
                  if (a._tag === "Failure" || b._tag === "Failure") {
                    assert(a._tag === "Failure" && b._tag === "Failure")
                    assert.deepStrictEqual(a.failure.reason, b.failure.reason)
                  } else {
                    const found = b.success
                    assert(found._tag === "Txn")
                    assert.deepStrictEqual(a.success, step.op._tag === "Txn" ? found : found.responses[0], shown())
                    revision = a.success.revision
                  }
                  break
                }
              }
              if (step._tag === "Op") {
                revisions.clear()
                const rows = yield* sql.unsafe<{ key: Uint8Array; c: bigint; m: bigint }>(
                  "select key, create_revision as c, mod_revision as m from entry_writes.entry"
                )
                for (const { c, key, m } of rows) revisions.set(new TextDecoder().decode(key), [BigInt(c), BigInt(m)])
              }
            }
            assert.deepStrictEqual(yield* one.state, yield* other.state, shown())
          }
          assert.isAbove(entryWrites, 10 * programs)
        }),
      60_000 + 5000 * programs
    )
  }
)
