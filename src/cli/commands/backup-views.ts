import type { BackupFacts, BackupMade, Restored } from '#daemon/backup'
import { countOf } from '../words.ts'
import { shownTime } from '../terminal.ts'

const size = (bytes: number): string =>
  bytes < 1_048_576 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 1_048_576).toFixed(1)} MiB`

const logLine = ({ log }: BackupFacts): string =>
  log === undefined ? '  audit log: none' : `  audit log: up to record ${log.head.seq}; its links hold`

const contents = (facts: BackupFacts): string[] => [
  `  store: schema ${facts.manifest.schema}, no damage found`,
  logLine(facts),
  `  configuration: ${countOf(facts.files.configuration, 'file')}`,
]

/** What `deputy backup` has done. */
export const backupLines = (
  path: string,
  dataKeys: string | undefined,
  { bytes, at, facts, leftOut, dataKeysBytes }: BackupMade,
): string[] => [
  `Backup of ${shownTime(at)}: ${path} (${size(bytes)}), read back and verified.`,
  ...contents(facts),
  dataKeysBytes === null
    ? `  data keys: not in it. A restore needs the folder of the keys, or a file that --data-keys has written.`
    : `  data keys of ${countOf(facts.manifest.tenants.length, 'tenant')}: ${dataKeys} (${size(dataKeysBytes)}). Keep only the newest one: a key in an older file opens what a revoked tenant had stored.`,
  ...leftOut.map((what) => `  not in it: ${what}`),
  '  A restore needs the key-encryption key and the key of the backup. Keep both apart from the backup.',
]

/** What `deputy backup verify` has found. */
export const verifiedLines = (path: string, facts: BackupFacts): string[] => [
  `${path} is whole: a backup of ${shownTime(facts.manifest.at)} by Deputy ${facts.manifest.version} (${size(facts.bytes)}).`,
  ...contents(facts),
  `  needs the key-encryption key ${[...new Set(facts.manifest.own_keys.map(({ kek }) => kek))].join(', ')}`,
  `  data keys: ${countOf(facts.manifest.tenants.length, 'tenant')}, in a file of their own`,
]

/** Events of the later log that a restored store does not have, as sentences. */
const SINCE: readonly (readonly [event: string, one: string, what: string])[] = [
  ['revocation', 'revocation', 'in force again at the next start'],
  ['user.disable', 'disabled user', 'disabled again at the next start'],
  ['user.enable', 'enabled user', 'enable again where the user is disabled: deputy user list'],
  ['tenant.freeze', 'frozen tenant', 'frozen again at the next start'],
  ['tenant.thaw', 'thawed tenant', 'thaw again where it is frozen'],
  ['connect.complete', 'connection', 'lost: these users connect again'],
  ['grant.refresh', 'refreshed grant', 'where the provider rotates refresh tokens, these users connect again'],
  ['secret.set', 'stored secret', 'lost: set again'],
  ['secret.rotate', 'rotated secret', 'the store has the secret of before: rotate or set again'],
]

const sinceLines = ({ laterLog, knownRecord, facts }: Restored): string[] => {
  const last = facts.log?.head.seq ?? 0
  if (laterLog !== null)
    return [
      `  audit log: goes on to record ${laterLog.head}, ${countOf(laterLog.head - last, 'record')} behind the backup`,
      ...SINCE.flatMap(([event, one, what]) => {
        const count = laterLog.events[event]
        return count === undefined ? [] : [`  since the backup: ${countOf(count, one)}; ${what}`]
      }),
      ...(laterLog.lacks === null
        ? []
        : [
            `  lost: ${laterLog.lacks}. Repeat revocations, disabled users and frozen tenants that are not in it, before callers can reach the daemon.`,
          ]),
    ]
  return [
    `  audit log: up to record ${last}${knownRecord !== null && knownRecord > last ? `; records ${last + 1} to ${knownRecord} and those after them are lost: deputy audit acknowledge` : ''}`,
    '  lost: revocations, disabled users and frozen tenants since the backup. Repeat them before callers can reach the daemon.',
    '  lost: grants, consents and secrets since the backup; users connect again, also where a refresh token was rotated since.',
  ]
}

/** What `deputy restore` has done, and what it has not brought back. */
export const restoredLines = (home: string, restored: Restored): string[] => {
  const { facts, keys } = restored
  return [
    `${home} is as it was at ${shownTime(facts.manifest.at)}.`,
    ...restored.setAside.map((folder) => `  moved aside: ${folder}`),
    ...sinceLines(restored),
    ...(keys.missing.length === 0
      ? []
      : [`  no data key, so that grants and secrets cannot be read: ${keys.missing.join(', ')}`]),
    ...(keys.destroyed.length === 0
      ? []
      : [`  revoked since, so that the data key was left out: ${keys.destroyed.join(', ')}`]),
    `  data keys: from ${keys.from}; the key-encryption key ${[...new Set(facts.manifest.own_keys.map(({ kek }) => kek))].join(', ')} has to be where deputy.yaml says`,
    '  It has the identity and the keys of the installation that the backup is of: where that one still runs, do not start this one.',
    'Next: start the daemon, then run deputy audit verify and deputy store losses. deputy status fails until the restore is acknowledged.',
  ]
}
