import { createHash } from 'node:crypto'
import { Cron } from 'croner'
import type { RotationPolicy, RotationWindow } from '#config'
import type { RotatedSecret } from '#foundation/store'

type When = RotationPolicy['when']

const MINUTE_MS = 60_000
/** A window comes around within a week; a day is one more for changes of the clock. */
const SEARCHED_MINUTES = 8 * 1440

/** A share of the jitter that is always the same for one secret, so that a plan that is printed is the one that happens. */
const jitterOf = ({ jitter }: When, { tenant, backend, secret }: RotatedSecret): number =>
  jitter === 0
    ? 0
    : Math.floor(
        (createHash('sha256')
          .update(JSON.stringify([tenant, backend, secret]))
          .digest()
          .readUInt32BE() /
          2 ** 32) *
          jitter,
      )

const formats = new Map<string, Intl.DateTimeFormat>()
/** Day and minute of the day in a time zone. */
const localTime = (at: number, zone: string): { day: string; minute: number } => {
  let format = formats.get(zone)
  if (format === undefined)
    formats.set(
      zone,
      (format = new Intl.DateTimeFormat('en-GB', {
        timeZone: zone,
        weekday: 'short',
        hour: '2-digit',
        minute: '2-digit',
        hourCycle: 'h23',
      })),
    )
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, value]))
  return { day: parts['weekday']!.toLowerCase(), minute: Number(parts['hour']) * 60 + Number(parts['minute']) }
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
const minutesOf = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3))

const isWithin = (at: number, { days, from, to, zone }: RotationWindow): boolean => {
  const { day, minute } = localTime(at, zone)
  const [begin, end] = [minutesOf(from), minutesOf(to)]
  const yesterday = DAYS[(DAYS.indexOf(day) + 6) % 7]!
  if (begin < end) return days.includes(day as RotationWindow['days'][number]) && minute >= begin && minute < end
  return (
    (days.includes(day as RotationWindow['days'][number]) && minute >= begin) ||
    (days.includes(yesterday as RotationWindow['days'][number]) && minute < end)
  )
}

/** The first moment from `at` on that is in a window (ms since the epoch); `at` itself where there are none. */
export const inWindow = (at: number, windows: readonly RotationWindow[]): number => {
  if (windows.length === 0) return at
  for (
    let minute = 0, moment = at;
    minute < SEARCHED_MINUTES;
    minute += 1, moment = Math.floor(at / MINUTE_MS + minute) * MINUTE_MS
  ) {
    if (windows.some((window) => isWithin(moment, window))) return moment
  }
  return at
}

/**
 * When a secret rotates next (ms since the epoch); null where only events make it rotate.
 * @param rotatedAt when it was rotated last, or first seen
 */
export const nextRotation = (when: When, secret: RotatedSecret, rotatedAt: number): number | null => {
  const { every, cron, zone, windows, max_age: maxAge } = when
  const jitter = jitterOf(when, secret)
  const planned =
    every !== undefined
      ? rotatedAt + every + jitter
      : cron !== undefined
        ? nextOf(cron, zone, rotatedAt, jitter)
        : undefined
  const within = planned === undefined ? undefined : inWindow(planned, windows)
  // What would become too old waits for no window.
  const latest = maxAge === undefined ? undefined : rotatedAt + maxAge
  if (within === undefined) return latest ?? null
  return latest === undefined ? within : Math.min(within, latest)
}

const nextOf = (cron: string, zone: string, after: number, jitter: number): number | undefined => {
  const next = new Cron(cron, { timezone: zone, paused: true }).nextRun(new Date(after))
  return next === null ? undefined : next.getTime() + jitter
}

/** All rotations of a secret from one moment until another (ms since the epoch), for a plan; at most `limit`. @param span.from null: none */
export const plannedRotations = (
  when: When,
  secret: RotatedSecret,
  { from, until, limit = 1000 }: { readonly from: number | null; readonly until: number; readonly limit?: number },
): number[] => {
  const planned: number[] = []
  for (let at = from; at !== null && at <= until && planned.length < limit; at = nextRotation(when, secret, at))
    planned.push(at)
  return planned
}
