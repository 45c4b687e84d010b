/**
 * A control process that wants to run for a millisecond every ten. It reports for how long the machine did not let it.
 */
import { setTimeout } from "node:timers"

const pauseMillis = 10
const workMicros = 1000

/** What a timer of Node is late by on an idle machine: it counts whole milliseconds. */
const timerMillis = 1.5

const cpuMicros = (): number => {
  const { system, user } = process.cpuUsage()
  return system + user
}

let ended = performance.now()
let used = cpuMicros()

const beat = () => {
  while (cpuMicros() - used < workMicros);
  const now = performance.now()
  const cpu = cpuMicros()
  const elapsed = now - ended
  const stall = Math.max(0, elapsed - pauseMillis - timerMillis - (cpu - used) / 1000)
  process.stdout.write(`${JSON.stringify({ at: Date.now(), elapsed, stall })}\n`)
  ended = performance.now()
  used = cpuMicros()
  setTimeout(beat, pauseMillis)
}

setTimeout(beat, pauseMillis)
