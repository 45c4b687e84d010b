/**
 * The codecs of the application's `PgClient`. Its option `types`, or `PgTypes.register`, can replace those of built-in types:
 * a revision that is decoded as a number or text would be compared as such.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { bytesOf, compareBytes } from "./bytes.ts"
import { bytesArray } from "./calls.ts"

/** A value of a type that the statements of this package have as parameters. */
interface Sample {
  readonly type: string
  readonly parameter: PgTypes.Parameter
  readonly bytes: ReadonlyArray<number>
  /** Whether rows have the type, too. */
  readonly isInRows: boolean
}

const sample = (type: string, parameter: PgTypes.Parameter, bytes: ReadonlyArray<number>, isInRows = true): Sample => ({
  type,
  parameter,
  bytes,
  isInRows
})

const samples: ReadonlyArray<Sample> = [
  sample("bool", PgTypes.bool(true), [1]),
  sample("int2", PgTypes.int2(258), [1, 2]),
  sample("int4", PgTypes.int4(258), [0, 0, 1, 2]),
  sample("int8", PgTypes.int8(2n ** 62n + 1n), [64, 0, 0, 0, 0, 0, 0, 1]),
  sample("text", PgTypes.text("a1"), [97, 49]),
  sample("bytea", PgTypes.bytea(Uint8Array.of(0, 255)), [0, 255]),
  sample("bytea[]", bytesArray([Uint8Array.of(7)]), [...[1, 0, 17, 1, 1, 1].flatMap((n) => [0, 0, 0, n]), 7], false),
  sample("uuid", PgTypes.uuid("00000000-0000-0000-0000-0000000000ff"), [...Array<number>(15).fill(0), 255], false),
  sample("jsonb", PgTypes.jsonb({ a: "b" }), [1, ...bytesOf(`{"a":"b"}`)], false)
]

/** Fails with `InvalidRequest` if a type is encoded or decoded in another way than by default. */
export const check = ({ config }: PgClient.PgClient): Effect.Effect<void, KvError.KvError> =>
  Effect.suspend(() => {
    const replaced = samples.filter((each) => !isDefault(each, config.types))
    return replaced.length === 0 ? Effect.void : KvError.fail(
      new KvError.InvalidRequest({
        message: `the PgClient has codecs of its own for ${
          replaced.map(({ type }) => type).join(", ")
        }, by its option ` +
          "types or by PgTypes.register; give the store a PgClient that has those of @effect/sql-pg"
      })
    )
  })

const isDefault = ({ bytes, isInRows, parameter }: Sample, types: PgTypes.Registry | undefined): boolean => {
  const encoded = PgTypes.encodeParameter(parameter, types)
  if (Result.isFailure(encoded) || !isSame(encoded.success, Uint8Array.from(bytes))) return false
  if (!isInRows) return true
  const decoded = PgTypes.decode(Uint8Array.from(bytes), parameter.oid, 1, types)
  return Result.isSuccess(decoded) && isSame(decoded.success, parameter.value)
}

const isSame = (actual: unknown, expected: unknown): boolean =>
  expected instanceof Uint8Array
    ? actual instanceof Uint8Array && compareBytes(actual, expected) === 0
    : actual === expected
