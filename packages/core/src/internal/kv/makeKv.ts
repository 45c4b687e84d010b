/**
 * The assembly of a `Kv` from its backend and the implementations of its methods.
 */
import type { Kv } from "../../service/KvService.ts"
import type { Fence } from "../fence/currentFences.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import * as watching from "../watch/kvWatch.ts"
import { described } from "./describedErrors.ts"
import * as guard from "./guard.ts"
import { Internals, TypeId } from "./internals.ts"
import * as internals from "./internals.ts"
import * as data from "./kvData.ts"

export const make = (origin: guard.Origin, sessions: SessionPool): Kv => {
  const backend = described(guard.guarded(origin))
  const unfenced = described(guard.unfenced(origin.raw))
  return {
    [TypeId]: new Internals({ backend, unfenced, origin, sessions }),
    ...data.make(backend, origin),
    ...watching.make(backend)
  }
}

/** The `Kv` with a fence on each of its writes, whichever fiber makes it. */
export const withFence = (kv: Kv, fence: Fence): Kv => {
  const { origin, sessions } = internals.of(kv)
  return make({ ...origin, fences: [...origin.fences, fence] }, sessions)
}
