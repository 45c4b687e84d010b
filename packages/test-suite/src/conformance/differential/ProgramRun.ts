/**
 * The run of a program on one store: resolves the revisions and leases that the program names.
 */
import type * as Kv from "@effect-kv/core/Kv"
import type * as Watch from "@effect-kv/core/Watch"
import type * as Effect from "effect/Effect"
import { Names } from "./Names.ts"
import type * as Program from "./Program.ts"

/**
 * One of the two stores. No other client writes to it, and everything in it is deleted.
 *
 * @since 0.1.0
 */
export interface Side {
  /** A client of the store. */
  readonly kv: Kv.Kv
  /** Compacts the store at the revision. */
  readonly compact: (revision: bigint) => Effect.Effect<void, unknown>
}

/** A lease id that no store grants. */
const unknownLease = 4711n

/** The state of a run. */
export class ProgramRun {
  readonly side: Side
  readonly names: Names
  readonly leases = new Map<number, bigint>()
  readonly granted = new Set<bigint>()
  readonly watcher: Watch.Watcher
  /** The batches that the watch of all keys has delivered. */
  readonly log: Array<Watch.Revision> = []
  /** The latest known revision of the store. */
  latest: bigint

  constructor(side: Side, base: bigint, watcher: Watch.Watcher) {
    this.side = side
    this.names = new Names(base)
    this.latest = base
    this.watcher = watcher
  }

  revision(of: Program.Revision): bigint {
    switch (of) {
      case "zero":
        return 0n
      case "negative":
        return -1n
      case "huge":
        return 2n ** 63n - 1n
      default: {
        const revision = this.latest - BigInt(of)
        return revision < this.names.base ? this.names.base : revision
      }
    }
  }

  optionalRevision(of: Program.Revision | undefined): bigint | undefined {
    return of === undefined ? undefined : this.revision(of)
  }

  lease(of: Program.LeaseSlot): bigint {
    return of === "unknown" ? unknownLease : this.leases.get(of) ?? unknownLease
  }

  saw<A extends { readonly revision: bigint }>(response: A): A {
    if (response.revision > this.latest) this.latest = response.revision
    return response
  }
}
