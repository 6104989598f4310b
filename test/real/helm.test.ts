/** The Helm chart: linted and rendered by the real Helm, held against the API as the manifests are, and against the daemon's settings. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { settingsSchema } from '../../src/config/settings.ts'
import { parseYamlFile } from '../../src/config/yaml-file.ts'
import { lookForProgram, needPeer } from '../peers/programs.ts'
import { assertOfSchema, containersOf, typeErrors, type Manifest, type PodSpec } from '../support/kubernetes.ts'

const CHART = resolve(import.meta.dirname, '../../deploy/helm/deputy')
const HOOK = 'helm.sh/hook'

/** Chosen or on the PATH, else built of its Go module. */
const helm = lookForProgram('helm', 'helm') ?? (await needPeer('helm').then((folder) => folder && join(folder, 'helm')))

const ran = (...args: string[]): { code: number | null; out: string; err: string } => {
  const { status, stdout, stderr } = spawnSync(helm!, [...args, '--kube-version', '1.31.0'], { encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

const FORMS: Readonly<Record<string, readonly string[]>> = {
  'a daemon set': [],
  'a sidecar with files of its own': ['--values', join(CHART, 'ci/sidecar-values.yaml')],
  'no Redis, no migration, no policy, keys of its own': ['--values', join(CHART, 'ci/small-values.yaml')],
}

const rendered = (values: readonly string[]): Manifest[] => {
  const { code, out, err } = ran('template', 'tools', CHART, '--namespace', 'tools', ...values)
  expect([code, err]).toEqual([0, ''])
  return parseAllDocuments(out).map((document) => {
    expect(document.errors).toEqual([])
    return document.toJS() as Manifest
  })
}
const podsOf = (manifests: readonly Manifest[]): PodSpec[] =>
  manifests.flatMap((manifest) => ('template' in (manifest.spec ?? {}) ? [manifest.spec.template.spec] : []))

describe.skipIf(helm === undefined)('the Helm chart', () => {
  it.each(Object.entries(FORMS))('%s: is linted, rendered, and what the API takes', async (form, values) => {
    const linted = ran('lint', '--strict', CHART, ...values)
    expect([linted.code, linted.out]).toEqual([0, expect.stringContaining('0 chart(s) failed')])
    const manifests = rendered(values)
    for (const manifest of manifests) await assertOfSchema(manifest, form)
    expect(typeErrors(manifests)).toBe('')
    for (const spec of podsOf(manifests)) {
      expect(spec.automountServiceAccountToken).toBe(false)
      for (const { name, securityContext, volumeMounts, resources } of containersOf(spec)) {
        expect(securityContext).toMatchObject({
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
        })
        if (name !== 'socket-folder') expect(securityContext.runAsNonRoot).toBe(true)
        expect(resources.limits.memory).toMatch(/Mi$/)
        for (const mount of volumeMounts ?? []) expect(spec.volumes.map((volume) => volume.name)).toContain(mount.name)
      }
    }
  })

  it.each(Object.entries(FORMS))('%s: has settings that the daemon takes, with what they refer to', (_, values) => {
    const manifests = rendered(values)
    const configMap = manifests.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'tools-deputy')!
    const read = parseYamlFile('deputy.yaml', configMap.data!['deputy.yaml']!, settingsSchema)
    expect(read.problems).toEqual([])
    const settings = read.values[0]!.value
    const deputy = podsOf(manifests)
      .flatMap(containersOf)
      .find(({ name }) => name === 'deputy')!
    const variables = (deputy as unknown as { env: { name: string }[] }).env.map(({ name }) => name)
    for (const [, name] of JSON.stringify(settings).matchAll(/"env":"(\w+)"/g)) expect(variables).toContain(name)
    for (const path of [settings.state, settings.keys!, settings.listen.socket, settings.listen.admin])
      expect(
        deputy.volumeMounts!.some((mount) => mount.readOnly !== true && path.startsWith(`${mount.mountPath}/`)),
      ).toBe(true)
    const [spec] = podsOf(manifests.filter(({ kind }) => kind !== 'Job'))
    expect(spec!.terminationGracePeriodSeconds! * 1000).toBeGreaterThan(
      settings.limits.shutdown_delay + settings.limits.drain,
    )
  })

  it('migrates before the pods change, keeps the keys at a removal, and refuses values that it does not know', () => {
    const manifests = rendered([])
    const annotations = (kind: string): unknown =>
      (
        manifests.find((manifest) => manifest.kind === kind)!.metadata as unknown as {
          annotations: Record<string, string>
        }
      ).annotations
    expect(annotations('Job')).toMatchObject({ [HOOK]: 'pre-install,pre-upgrade' })
    expect(annotations('PersistentVolumeClaim')).toEqual({ 'helm.sh/resource-policy': 'keep' })
    for (const wrong of ['mode=deployment', 'image.tagg=1', 'settings.issuer=http://connect.example.com'])
      expect(ran('template', 'tools', CHART, '--set', wrong)).toMatchObject({
        code: 1,
        err: expect.stringContaining('values don'),
      })
    const { version } = JSON.parse(readFileSync(join(CHART, '../../../package.json'), 'utf8')) as { version: string }
    expect(parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8'))).toMatchObject({ version, appVersion: version })
    expect(ran('template', 'tools', CHART, '--set', 'mode=sidecar').err).toContain('server.image is the image')
  })
})
