/**
 * States of a live value that can be printed: as JSON, which has no bigints, and without the value, which may be a secret.
 */
import type * as DateTime from "effect/DateTime"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type { Rejected, State } from "./model.ts"

export class StateOf<A> implements State<A> {
  readonly value: A
  readonly revision: bigint
  readonly rejected: Option.Option<Rejected>
  readonly staleSince: Option.Option<DateTime.Utc>

  constructor({ rejected, revision, staleSince, value }: State<A>) {
    this.value = value
    this.revision = revision
    this.rejected = rejected
    this.staleSince = staleSince
  }

  toJSON(): unknown {
    return {
      revision: `${this.revision}`,
      rejected: Option.getOrNull(this.rejected),
      staleSince: Option.getOrNull(this.staleSince)
    }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

export class RejectedOf implements Rejected {
  readonly revision: bigint
  readonly message: string
  readonly since: DateTime.Utc

  constructor({ message, revision, since }: Rejected) {
    this.revision = revision
    this.message = message
    this.since = since
  }

  toJSON(): unknown {
    return { revision: `${this.revision}`, message: this.message, since: this.since }
  }
}
