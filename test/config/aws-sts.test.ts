import { describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'

describe('a downstream of STS', () => {
  const parse = (given: object) =>
    downstreamSchema.safeParse({
      downstream: 'reports',
      credential: 'aws_sts',
      region: 'eu-central-1',
      role: 'arn:aws:iam::123456789012:role/reports',
      ...given,
    })
  const statements = (count: number) => ({
    read: Array.from({ length: count }, (_, index) => ({
      Effect: 'Allow',
      Action: 's3:GetObject',
      Resource: `arn:aws:s3:::reports/${index}`,
    })),
  })

  it('fault 100: is refused where STS would refuse each request', () => {
    expect(parse({ lifetime: '12h', statements: statements(20) }).success).toBe(true)
    expect(parse({ lifetime: '13h' }).error?.issues).toMatchObject([{ path: ['lifetime'] }])
    expect(parse({ method: 'session_token', lifetime: '36h' }).success).toBe(true)
    expect(parse({ statements: statements(30) }).error?.issues).toMatchObject([
      { path: ['statements'], message: expect.stringMatching(/2048/) as string },
    ])
  })
})
