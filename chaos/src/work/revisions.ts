/**
 * The present revision of the store, for notes of what a client did between two revisions.
 */
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"
import type { RecordedClient } from "./Worker.ts"

export const now = ({ kv, prefix }: RecordedClient) =>
  Effect.map(
    backendOf(kv).execute(Op.get(`${prefix}register/0`, { countOnly: true })),
    ({ revision }) => revision
  )
