/**
 * Leases and their statuses as records with a `toJSON`: JSON has no bigints.
 */
import type * as Duration from "effect/Duration"
import type { Lease, Status } from "../../values/LeaseModel.ts"
import * as json from "./json.ts"

class LeaseRecord implements Lease {
  readonly id: bigint
  readonly ttl: Duration.Duration

  constructor(fields: Lease) {
    this.id = fields.id
    this.ttl = fields.ttl
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class StatusRecord implements Status {
  readonly id: bigint
  readonly grantedTtl: Duration.Duration
  readonly remaining: Duration.Duration
  readonly keys: ReadonlyArray<string>

  constructor(fields: Status) {
    this.id = fields.id
    this.grantedTtl = fields.grantedTtl
    this.remaining = fields.remaining
    this.keys = fields.keys
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

export const make = (fields: Lease): Lease => new LeaseRecord(fields)

export const makeStatus = (fields: Status): Status => new StatusRecord(fields)
