/**
 * `npm run test:systemd`: the shipped unit in a systemd that is really booted, in a container of `systemd-nspawn`, set up by
 * the steps of docs/deploy.md. Needs root, the packages `systemd-container` and `debootstrap`, and Debian's archive the
 * first time; where that is missing it says so and ends with 0, or with 1 under `--require`. With `--deb FILE` the Debian
 * package of `npm run package -- --deb` is installed in place of the steps.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..')
const SUITE = 'bookworm'
const PACKAGES = 'systemd,systemd-sysv,dbus,libstdc++6,libatomic1,procps'
/** How long the container may take from its boot to its end (ms). */
const BOOT_LIMIT = 120_000
const RESULT = '/var/tmp/result'
const MAIN = '/usr/lib/deputy/dist/cli/main.js'

const skip = (why: string): never => {
  process.stderr.write(`\n*** SKIPPED: the unit in a booted systemd: ${why} ***\n\n`)
  process.exit(process.argv.includes('--require') ? 1 : 0)
}

const run = (program: string, args: readonly string[], timeout = 600_000): string => {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout, cwd: ROOT })
  if (status !== 0)
    throw new Error(`${program} ${args.join(' ')} ended with ${status ?? error?.message}:\n${stdout}${stderr}`)
  return stdout
}

/** The container's file system, fetched once for a list of packages. */
const findSystem = (): string => {
  const hash = createHash('sha256').update(`${SUITE} ${PACKAGES}`).digest('hex').slice(0, 12)
  const system = join(tmpdir(), `deputy-systemd-${hash}`)
  if (existsSync(system)) return system
  const made = mkdtempSync(`${system}-`)
  try {
    run('debootstrap', ['--variant=minbase', `--include=${PACKAGES}`, SUITE, made])
  } catch (error) {
    rmSync(made, { recursive: true, force: true })
    skip(`debootstrap failed: ${(error as Error).message.slice(-300)}`)
  }
  // It becomes the root of the container, which every user there passes through.
  chmodSync(made, 0o755)
  renameSync(made, system)
  return system
}

/** The steps of docs/deploy.md, as root in the container. */
const SET_UP = `set -eux
cd /checkout
mkdir -p /usr/lib/deputy/node_modules
cp -r package.json providers policies LICENSE /usr/lib/deputy/
install -D -m 0644 deploy/systemd/sysusers.d/deputy.conf /etc/sysusers.d/deputy.conf
install -D -m 0644 deploy/systemd/tmpfiles.d/deputy.conf /etc/tmpfiles.d/deputy.conf
install -D -m 0644 deploy/systemd/deputy.service /etc/systemd/system/deputy.service
systemd-sysusers deputy.conf && systemd-tmpfiles --create deputy.conf
node ${MAIN} init /etc/deputy
install -o deputy -g deputy -m 0600 /etc/deputy/state/kek /var/lib/deputy/kek
rm -r /etc/deputy/state
sed "s/socket_group: .*/socket_group: $(getent group deputy-clients | cut -d: -f3)/" deploy/systemd/deputy.yaml > /etc/deputy/deputy.yaml
chown -R root:deputy /etc/deputy && chmod -R u=rwX,g=rX,o= /etc/deputy
useradd --system --groups deputy-clients notes
useradd --system stranger
systemctl enable deputy.service look.service
`

/** The same by the Debian package, which does the steps itself. */
const SET_UP_PACKAGE = `set -eux
dpkg -i /package.deb
test "$(deputy --version)" = "$(dpkg-query -W -f '\${Version}' deputy)"
test "$(dpkg -V deputy | wc -l)" = 0
dpkg -i /package.deb
useradd --system --groups deputy-clients notes
useradd --system stranger
systemctl enable deputy.service look.service
`

/** What is asked of the booted system, a line each: a name and what came of it. */
const LOOK = `exec > ${RESULT} 2>&1
as() { user=$1; shift; setpriv --reuid=$user --regid=$user --init-groups -- "$@"; }
health() { as $1 node -e "require('node:http').get({socketPath:'/run/deputy/deputy.sock',path:'/readyz'},(a)=>{console.log(a.statusCode);process.exit()}).on('error',(e)=>{console.log(e.code);process.exit()})"; }
for attempt in $(seq 60); do [ "$(health notes)" = 200 ] && break; sleep 0.5; done
echo "active $(systemctl is-active deputy)"
echo "restarts $(systemctl show --property NRestarts --value deputy)"
echo "socket $(stat --format '%a %U:%G' /run/deputy/deputy.sock)"
echo "keys $(ls /var/lib/deputy/keys | grep -c _deputy.key)"
echo "member $(health notes)"
echo "stranger $(health stranger)"
echo "status $(as deputy node ${MAIN} status --home /etc/deputy > /dev/null; echo $?)"
systemctl reload deputy; echo "reload $?"
echo "second $(as deputy node ${MAIN} serve --home /etc/deputy > /dev/null 2>&1; echo $?)"
kill -KILL $(systemctl show --property MainPID --value deputy)
for attempt in $(seq 60); do [ "$(systemctl show --property NRestarts --value deputy)" = 1 ] && [ "$(health notes)" = 200 ] && break; sleep 0.5; done
echo "after-kill $(health notes)"
systemctl stop deputy; echo "stopped $(systemctl show --property ExecMainStatus --value deputy)"
journalctl --unit deputy --no-pager --output cat | tail -40
`

const LOOK_UNIT = `[Unit]
After=deputy.service
[Service]
Type=oneshot
ExecStart=-/bin/bash /usr/local/bin/look
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=multi-user.target
`

const EXPECTED = [
  'active active',
  'restarts 0',
  'socket 660 deputy:deputy-clients',
  'keys 1',
  'member 200',
  'stranger EACCES',
  'status 0',
  'reload 0',
  'second 7',
  'after-kill 200',
  'stopped 0',
]

/** The program as docs/deploy.md puts it there. @returns what `systemd-nspawn` shows to the container */
const placeCheckout = (folder: string, container: string): string[] => {
  const dist = join(folder, 'dist')
  run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json', '--outDir', dist])
  run(process.execPath, [join(ROOT, 'scripts/bundle.ts'), join(dist, 'cli')])
  for (const path of ['usr/lib/deputy/node_modules', 'usr/lib/deputy/dist', 'checkout'])
    run('mkdir', ['-p', join(container, path)])
  return [
    `--bind-ro=${ROOT}:/checkout`,
    `--bind-ro=${dist}:/usr/lib/deputy/dist`,
    `--bind-ro=${join(ROOT, 'node_modules')}:/usr/lib/deputy/node_modules`,
  ]
}

const placePackage = (deb: string, container: string): string[] => {
  writeFileSync(join(container, 'package.deb'), '')
  return [`--bind-ro=${realpathSync(deb)}:/package.deb`]
}

const main = (): number => {
  const asked = process.argv.indexOf('--deb')
  const deb = asked === -1 ? undefined : process.argv[asked + 1]
  if (process.getuid?.() !== 0) skip('it needs root')
  for (const [program, name] of [
    ['systemd-nspawn', 'systemd-container'],
    ['debootstrap', 'debootstrap'],
  ] as const)
    if (spawnSync(program, ['--version']).status !== 0) skip(`${program} is missing; install the package ${name}`)
  const system = findSystem()
  const folder = mkdtempSync(join(tmpdir(), 'deputy-booted-'))
  const container = join(folder, 'system')
  try {
    run('cp', ['-a', '--reflink=auto', system, container])
    const places = deb === undefined ? placeCheckout(folder, container) : placePackage(deb, container)
    writeFileSync(join(container, 'usr/bin/node'), '')
    writeFileSync(join(container, 'usr/local/bin/look'), LOOK)
    writeFileSync(join(container, 'etc/systemd/system/look.service'), LOOK_UNIT)
    const arguments_ = [
      '--quiet',
      '--register=no',
      '--keep-unit',
      '--directory',
      container,
      `--bind-ro=${realpathSync(process.execPath)}:/usr/bin/node`,
      ...places,
    ]
    run(
      'systemd-nspawn',
      [...arguments_, '--pipe', '/bin/bash', '-c', deb === undefined ? SET_UP : SET_UP_PACKAGE],
      BOOT_LIMIT,
    )
    const booted = spawnSync('systemd-nspawn', [...arguments_, '--boot'], { encoding: 'utf8', timeout: BOOT_LIMIT })
    const result = join(container, RESULT)
    if (!existsSync(result)) {
      process.stderr.write(`${booted.stdout}${booted.stderr}`.slice(-3000))
      return skip('the container did not boot; its last lines are above')
    }
    const lines = readFileSync(result, 'utf8').split('\n')
    const wrong = EXPECTED.filter((line) => !lines.includes(line))
    process.stdout.write(
      wrong.length === 0 ? `${EXPECTED.join('\n')}\n` : `missing: ${wrong.join(', ')}\n\n${lines.join('\n')}\n`,
    )
    process.stdout.write(`${EXPECTED.length - wrong.length} passed, ${wrong.length} failed\n`)
    return wrong.length === 0 ? 0 : 1
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

process.exitCode = main()
