/**
 * The processes of a command: itself and its descendants. A command such as `sh -c` runs others, which must end with it.
 */
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

interface Process {
  readonly pid: number
  readonly parent: number
  readonly group: number
  /** Distinguishes processes that have had the same pid. */
  readonly started: string
}

/** A command's processes. */
export interface Processes {
  /** Sends a signal to all of them that are alive. */
  readonly signal: (signal: NodeJS.Signals) => void
  /** Whether none is alive. Looks for new ones. */
  readonly areGone: () => boolean
}

/**
 * The processes of a command that was just started. Those that it leaves behind when it ends are known if it was looked
 * at before, or if the command leads a process group.
 */
export const of = (pid: number, leadsGroup: boolean): Processes => {
  const known = new Set<string>()
  const idOf = ({ pid, started }: Process) => `${pid} ${started}`
  const first = all().find((process) => process.pid === pid)
  if (first !== undefined) known.add(idOf(first))

  const alive = (): ReadonlyArray<Process> => {
    const processes = all()
    const members = processes.filter((process) => known.has(idOf(process)) || leadsGroup && process.group === pid)
    const children = Map.groupBy(processes, ({ parent }) => parent)
    for (const member of members) {
      const unseen = children.get(member.pid)?.filter((child) => !members.includes(child)) ?? []
      members.push(...unseen)
    }
    for (const member of members) known.add(idOf(member))
    return members
  }

  return {
    signal: (signal) => {
      for (const { pid } of alive()) send(pid, signal)
    },
    areGone: () => alive().length === 0
  }
}

const send = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended, or belongs to another user.
  }
}

/** All processes but those that have ended and whose parent does not know it yet. */
const all = (): ReadonlyArray<Process> =>
  (process.platform === "linux" ? fromProc() : fromPs())
    .filter(({ state }) => !state.startsWith("Z"))

type Found = Process & { readonly state: string }

const fromProc = (): ReadonlyArray<Found> =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8")
      // The name of the program is in parentheses and may hold anything.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
      const [state, parent, group] = fields
      return [{ pid: Number(name), parent: Number(parent), group: Number(group), state: state!, started: fields[19]! }]
    } catch {
      return [] // it ended meanwhile
    }
  })

const fromPs = (): ReadonlyArray<Found> =>
  execFileSync("ps", ["-A", "-o", "pid=,ppid=,pgid=,stat=,lstart="], { encoding: "utf8" }).trim().split("\n").map(
    (line) => {
      const [pid, parent, group, state, ...started] = line.trim().split(/\s+/)
      return {
        pid: Number(pid),
        parent: Number(parent),
        group: Number(group),
        state: state!,
        started: started.join(" ")
      }
    }
  )
