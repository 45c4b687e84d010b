/**
 * The terminal that controls this process, if any: it sends the signals of its keys, such as Ctrl-C, to every process of
 * its foreground group.
 */
import { execFileSync } from "node:child_process"
import { closeSync, openSync, readFileSync } from "node:fs"

/** Whether a terminal controls this process. */
export const isPresent = (): boolean => {
  try {
    closeSync(openSync("/dev/tty", "r"))
    return true
  } catch {
    return false
  }
}

/** Whether this process is in the foreground group of its terminal, so that the terminal's keys reach it. */
export const isForeground = (): boolean => {
  const [group, foreground] = groups()
  return group !== undefined && group === foreground
}

/** The process group of this process and the foreground group of its terminal. */
const groups = (): ReadonlyArray<string> => {
  try {
    if (process.platform === "linux") {
      const stat = readFileSync("/proc/self/stat", "utf8")
      // The name of the program is in parentheses and may hold anything.
      const [, , , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 1).split(" ")
      return [group!, foreground!]
    }
    return execFileSync("ps", ["-o", "pgid=,tpgid=", "-p", `${process.pid}`], { encoding: "utf8" }).trim().split(/\s+/)
  } catch {
    return []
  }
}
