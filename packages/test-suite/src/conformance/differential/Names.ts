/**
 * Names for the results of a store that are the same for every store: revisions relative to the start of the program,
 * leases by the names that the program gives them, values as bytes.
 */
import type { Entry } from "@effect-kv/core/Entry"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Lease from "@effect-kv/core/Lease"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/**
 * A result in a form that can be compared and printed.
 *
 * @since 0.1.0
 */
export type Outcome = string | number | boolean | ReadonlyArray<Outcome>

/** How many seconds a lease may have lost while a program runs, without a difference. */
const toleratedSeconds = 120

/** Revisions from here on are not relative to the start: the program requested one that will never exist. */
const never = 2n ** 62n

export class Names {
  /** The revision at the program's start. */
  readonly base: bigint
  readonly #leases = new Map<bigint, string>()

  constructor(base: bigint) {
    this.base = base
  }

  nameLease(id: bigint, name: string): void {
    this.#leases.set(id, name)
  }

  revision(revision: bigint): string {
    if (revision === 0n) return "0"
    if (revision >= never) return "never"
    return revision === this.base ? "base" : `base+${revision - this.base}`
  }

  lease(lease: Lease.Lease): Outcome {
    return [this.#leaseName(lease.id), Duration.toMillis(lease.ttl)]
  }

  leaseStatus(status: Lease.Status): Outcome {
    const left = Duration.toSeconds(status.grantedTtl) - Duration.toSeconds(status.remaining)
    return [
      this.#leaseName(status.id),
      Duration.toMillis(status.grantedTtl),
      left >= 0 && left < toleratedSeconds ? "most of it left" : `${left} seconds passed`,
      status.keys
    ]
  }

  entry(entry: Entry): Outcome {
    return [
      entry.key,
      [...entry.value].join(" "),
      this.revision(entry.createRevision),
      this.revision(entry.modRevision),
      entry.version,
      Option.match(entry.lease, { onNone: () => "no lease", onSome: (id) => this.#leaseName(id) })
    ]
  }

  failure(error: KvError.KvError): Outcome {
    return `${error.reason._tag}, ${error.outcome}`
  }

  response(op: Op.Op, response: Op.Response<Op.Op>): Outcome {
    const revision = this.revision(response.revision)
    switch (response._tag) {
      case "Range":
        return [revision, response.count, response.more, this.#entries(op as Op.Range, response)]
      case "Put":
        return [
          revision,
          Option.match(response.previous, { onNone: () => "none", onSome: (entry) => this.entry(entry) })
        ]
      case "Delete":
        return [revision, response.deleted, response.previous.map((entry) => this.entry(entry))]
      case "Txn": {
        const branch = (op as Op.Txn)[response.succeeded ? "then" : "else"]
        return [revision, response.succeeded, response.responses.map((inner, i) => this.response(branch[i]!, inner))]
      }
    }
  }

  batches(batches: ReadonlyArray<Watch.Revision>): ReadonlyArray<Outcome> {
    return batches.map((batch) => [this.revision(batch.revision), batch.events.map((event) => this.#event(event))])
  }

  #event(event: Watch.Event): Outcome {
    const previous = Option.match(event.previous, { onNone: () => "none", onSome: (entry) => this.entry(entry) })
    return event._tag === "Put"
      ? ["put", event.key, this.revision(event.revision), this.entry(event.entry), event.isCreate, previous]
      : ["delete", event.key, this.revision(event.revision), previous]
  }

  /** Entries with an equal sort key have no defined order, and a limit may select any of them. */
  #entries(op: Op.Range, response: Op.RangeResponse): Outcome {
    const by = op.order?.by ?? "key"
    if (by === "key") return response.entries.map((entry) => this.entry(entry))
    const groups: Array<[rank: bigint | number, Array<Entry>]> = []
    for (const entry of response.entries) {
      const last = groups.at(-1)
      if (last !== undefined && last[0] === entry[by]) last[1].push(entry)
      else groups.push([entry[by], [entry]])
    }
    return groups.map(([rank, entries], i) => [
      typeof rank === "bigint" ? this.revision(rank) : rank,
      response.more && i === groups.length - 1
        ? entries.length
        : entries.toSorted((a, b) => a.key < b.key ? -1 : 1).map((entry) => this.entry(entry))
    ])
  }

  #leaseName(id: bigint): string {
    return this.#leases.get(id) ?? "a lease that the program does not know"
  }
}
