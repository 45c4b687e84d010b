/**
 * Notes of a round's clients: what they saw and what they know of their own work, besides the history of their calls.
 */

/** A leader that an observer saw: the revision of its value, and the value. The revision 0 means that there was none. */
export interface SeenLeader {
  readonly revision: bigint
  readonly value: string
}

/** An addition to a counter, and what its client knows of it. */
export interface Addition {
  readonly amount: number
  outcome: "Added" | "NotAdded" | "Unknown"
}

/** The values of a member in their order, and the index of the last one that the client knows to be written. */
export interface MemberValues {
  readonly values: Array<string>
  known: number
}

/** A wait for the latch that ended, and the revisions of the store before and after it. */
export interface LatchPass {
  readonly client: string
  readonly from: bigint
  readonly to: bigint
}

/** A participant of the barrier that went on, and the round that had opened. */
export interface BarrierPass {
  readonly participant: string
  readonly round: number
}

/** A number of the sequence, and when it was taken, by the monotonic clock in nanoseconds. */
export interface TakenNumber {
  readonly value: bigint
  readonly began: bigint
  readonly ended: bigint
}

/** The steps that are done once. */
export interface Steps {
  /** The first that no call has returned from. */
  current: number
  /** The tokens of the runs whose function has begun. */
  readonly begun: Array<bigint>
  /** What calls have returned: that they have done the step, or that another call has. */
  readonly returned: Array<{ readonly step: number; readonly isOwn: boolean }>
}

/** A row of the application's own table, and what its client knows of the transaction that wrote it. */
export interface Invoice {
  readonly mark: string
  readonly outcome: "Accepted" | "Rejected" | "Unknown"
}

/** The notes of a round. */
export interface Notes {
  /** For each client, the leaders that its observer saw, in their order. */
  readonly leaders: Readonly<Record<string, Array<SeenLeader>>>
  readonly additions: Array<Addition>
  /** By client. */
  readonly members: Readonly<Record<string, MemberValues>>
  readonly latchPasses: Array<LatchPass>
  /** The clients that passed the latch that was opened at the end of the round and reset at once. */
  readonly releasedLast: Array<string>
  readonly barrierPasses: Array<BarrierPass>
  readonly numbers: Array<TakenNumber>
  readonly denseNumbers: Array<bigint>
  readonly steps: Steps
  readonly invoices: Array<Invoice>
}

/** Makes the notes of a round that begins. */
export const make = (clients: ReadonlyArray<string>): Notes => ({
  leaders: Object.fromEntries(clients.map((name) => [name, []])),
  additions: [],
  members: Object.fromEntries(clients.map((name) => [name, { values: [], known: -1 }])),
  latchPasses: [],
  releasedLast: [],
  barrierPasses: [],
  numbers: [],
  denseNumbers: [],
  steps: { current: 0, begun: [], returned: [] },
  invoices: []
})
