/** Programs that some tests need, and how they come onto a Debian machine. */
import { spawnSync } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'

/** @param paths any one of them is enough; glob patterns */
interface Program {
  readonly package: string
  readonly paths: readonly string[]
  readonly tests: string
}

const PROGRAMS: readonly Program[] = [
  {
    package: 'chromium',
    paths: ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'],
    tests: 'the tests of the pages in a real browser',
  },
  {
    package: 'postgresql',
    paths: ['/usr/lib/postgresql/*/bin/initdb'],
    tests: 'the tests of the store in Postgres and of many nodes',
  },
  {
    package: 'pgbouncer',
    paths: ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'],
    tests: 'the tests of Postgres behind a pooler',
  },
  { package: 'redis-server', paths: ['/usr/bin/redis-server'], tests: 'the tests of the shared cache in Redis' },
  { package: 'rsyslog', paths: ['/usr/sbin/rsyslogd'], tests: 'the tests of audit records at a real syslog' },
  {
    package: 'rsyslog-openssl',
    paths: ['/usr/lib/*/rsyslog/lmnsd_ossl.so'],
    tests: 'the test of audit records at a real syslog with TLS',
  },
  { package: 'python3', paths: ['/usr/bin/python3'], tests: 'the tests of the Python client' },
  { package: 'xmlsec1', paths: ['/usr/bin/xmlsec1'], tests: 'a test of SAML assertions by another program' },
]

const isMissing = ({ paths }: Program): boolean => globSync([...paths]).length === 0

/** ms that apt-get may take for one step. */
const PATIENCE = 240_000

const aptGet = (...args: string[]): boolean =>
  spawnSync('apt-get', args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: PATIENCE,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  }).status === 0

/** Installs what is missing where that is allowed; says loudly what stays missing, because its tests will be skipped. */
export const installPackages = (): void => {
  const missing = PROGRAMS.filter(isMissing)
  if (missing.length === 0) return
  if (process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    process.stdout.write(`Installing ${missing.map((program) => program.package).join(', ')} for the tests …\n`)
    aptGet('update', '--quiet')
    for (const program of missing) aptGet('install', '--yes', '--no-install-recommends', '--quiet', program.package)
  }
  for (const program of missing.filter(isMissing))
    process.stdout.write(
      `\n*** ${program.package} is not installed and could not be: ${program.tests} will be SKIPPED. ***\n\n`,
    )
}
