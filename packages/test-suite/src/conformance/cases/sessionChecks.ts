/**
 * Checks for cases about sessions.
 */
import type * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as faults from "./faults.ts"

export const leaseIsGone = (kv: Kv.Kv, lease: bigint) =>
  Effect.map(Effect.exit(backendOf(kv).leaseTimeToLive(lease)), Exit.isFailure)

export const countOf = (seen: faults.Faults, kind: faults.Call["kind"]) =>
  seen.calls.filter((call) => call.kind === kind).length
