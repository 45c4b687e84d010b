/**
 * The removal of a contender from its queue, exactly: on the condition that its key still has its token. A key may have
 * been deleted and made again by the same client meanwhile; that is another contender.
 */
import * as Compare from "@effect-kv/core/Compare"
import type * as Inventory from "@effect-kv/core/Inventory"
import { Kv } from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"

/** Whether it was removed. Otherwise nothing has changed. */
export const remove = (
  { key, token }: Pick<Inventory.Contender, "key" | "token">
): Effect.Effect<boolean, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) =>
    Effect.map(
      kv.txn({ if: [Compare.createRevision(key, "=", token)], then: [Op.delete(key)] }),
      ({ succeeded }) => succeeded
    ))
