/**
 * Latches and barriers, checked by the store's own history: no client passes one that is closed, all waiters pass one that
 * opens, and a round of a barrier opens with all its participants.
 */
import type { BarrierPass, LatchPass, Notes } from "./Notes.ts"
import type { Change } from "./Store.ts"
import * as barriers from "./work/barriers.ts"
import * as latches from "./work/latches.ts"

type Changes = ReadonlyArray<Change>

/** What was wrong, as messages. */
export const find = (changes: Changes, prefix: string, notes: Notes): ReadonlyArray<string> => [
  ...wrongPasses(changes, latches.latchName(prefix), notes.latchPasses),
  ...notReleased(changes, latches.lastLatchName(prefix), notes),
  ...wrongRounds(changes, barriers.barrierName(prefix), notes.barrierPasses)
]

interface Record {
  readonly round: number
  readonly open?: boolean
  readonly broken?: string
}

const recordOf = ({ type, value }: Change): Record => type === "put" ? JSON.parse(value) as Record : { round: 0 }

/** From which revision on the latch was open or closed, by the arrivals in the store and by hand. */
const opennessOf = (changes: Changes, name: string): ReadonlyArray<readonly [revision: bigint, isOpen: boolean]> => {
  const arrived = new Map<number, Set<string>>()
  let record: Record = { round: 0 }
  const openness: Array<readonly [revision: bigint, isOpen: boolean]> = [[0n, false]]
  for (const [revision, group] of Map.groupBy(changes, ({ modRevision }) => modRevision)) {
    for (const change of group) {
      if (change.key === latches.recordOf(name)) record = recordOf(change)
      const arrival = latches.arrivalOf(name, change.key)
      if (arrival === undefined) continue
      const ofRound = arrived.get(arrival.round) ?? new Set()
      arrived.set(arrival.round, ofRound)
      if (change.type === "put") ofRound.add(arrival.id)
      else ofRound.delete(arrival.id)
    }
    const isOpen = record.open === true || (arrived.get(record.round)?.size ?? 0) >= latches.count
    if (isOpen !== openness.at(-1)![1]) openness.push([revision, isOpen])
  }
  return openness
}

const wrongPasses = (changes: Changes, name: string, passes: ReadonlyArray<LatchPass>): ReadonlyArray<string> => {
  const openness = opennessOf(changes, name)
  return passes.flatMap(({ client, from, to }) =>
    openness.some(([since, isOpen], i) =>
        isOpen && since <= to && (openness[i + 1] === undefined || openness[i + 1]![0] > from)
      )
      ? []
      : [`${client} passed the latch ${name} between the revisions ${from} and ${to}, when it was not open`]
  )
}

/** All clients waited for the last latch before it opened. */
const notReleased = (changes: Changes, name: string, notes: Notes): ReadonlyArray<string> =>
  opennessOf(changes, name).some(([, isOpen]) => isOpen)
    ? Object.keys(notes.leaders).filter((client) => !notes.releasedLast.includes(client)).map((client) =>
      `${client} was waiting for the latch ${name} when it opened, and was not released`
    )
    : []

/** A round opens once all parties were there at a time, and is broken only by the death of one of them. */
const wrongRounds = (changes: Changes, name: string, passes: ReadonlyArray<BarrierPass>): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  const opened = new Set<number>()
  const present = new Set<string>()
  const died = new Set<string>()
  let entered = new Set<string>()
  let most = 0
  let record: Record = { round: 0 }
  for (const [revision, group] of Map.groupBy(changes, ({ modRevision }) => modRevision)) {
    const isGoodbye = group.some(({ key, type }) =>
      key.startsWith(`${name}/barrier/`) && key.endsWith("/left") && type === "put"
    )
    for (const { key, type } of group) {
      const participant = barriers.participantOf(name, key)
      if (participant?.round !== record.round) continue
      if (type === "put") {
        present.add(participant.id)
        entered.add(participant.id)
      } else {
        present.delete(participant.id)
        if (!isGoodbye) died.add(participant.id)
      }
      most = Math.max(most, present.size)
    }
    const change = group.find(({ key }) => key === barriers.recordOf(name))
    if (change === undefined) continue
    const next = recordOf(change)
    const where = `the round ${record.round} of ${name}`
    if (next.round !== record.round + 1) {
      wrong.push(`${name} went from round ${record.round} to ${next.round} at revision ${revision}`)
    } else if (next.broken === "") {
      if (most < barriers.parties) {
        wrong.push(`${where} opened at revision ${revision} with ${most} of ${barriers.parties} participants`)
      }
      opened.add(record.round)
      const passed = passes.filter(({ round }) => round === record.round).map(({ participant }) => participant)
      if (passed.length > barriers.parties || new Set(passed).size < passed.length) {
        wrong.push(`${passed.join(", ")} passed ${where}`)
      }
      const absent = passed.filter((participant) => !entered.has(participant))
      wrong.push(...absent.map((participant) => `${participant} passed ${where}, which it had not entered`))
    } else if (next.broken !== undefined && !died.has(next.broken)) {
      wrong.push(`${where} was broken by ${next.broken}, which had not died`)
    }
    record = next
    present.clear()
    died.clear()
    entered = new Set()
    most = 0
  }
  return [
    ...wrong,
    ...passes.filter(({ round }) => !opened.has(round)).map(({ participant, round }) =>
      `${participant} passed the round ${round} of ${name}, which has not opened`
    )
  ]
}
