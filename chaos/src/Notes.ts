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

/** The notes of a round. */
export interface Notes {
  /** For each client, the leaders that its observer saw, in their order. */
  readonly leaders: Readonly<Record<string, Array<SeenLeader>>>
  readonly additions: Array<Addition>
  /** By client. */
  readonly members: Readonly<Record<string, MemberValues>>
}

/** Makes the notes of a round that begins. */
export const make = (clients: ReadonlyArray<string>): Notes => ({
  leaders: Object.fromEntries(clients.map((name) => [name, []])),
  additions: [],
  members: Object.fromEntries(clients.map((name) => [name, { values: [], known: -1 }]))
})
