import * as fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import { describe, expect, it } from 'vitest'
import { createAddressJudge, isLoopbackHost } from '../../src/foundation/outbound/address.ts'

const judge = createAddressJudge({ allowLoopback: false, allowPrivate: [] })
const open = createAddressJudge({ allowLoopback: true, allowPrivate: ['0.0.0.0/0', '::/0'] })

const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255))

describe('the address judge', () => {
  it.each([
    '127.0.0.1',
    '127.8.8.8',
    '::1',
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.1.1',
    '0.0.0.0',
    '0.1.2.3',
    '100.64.0.1',
    '224.0.0.1',
    '239.1.1.1',
    '255.255.255.255',
    '240.0.0.1',
    '192.0.2.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '::',
    'fe80::1',
    'fec0::1',
    'fc00::1',
    'fd12::1',
    'ff02::1',
    '::7f00:1',
    '4000::1',
    '64:ff9b::7f00:1',
    '64:ff9b:1::1',
    '2002:7f00:1::',
    '2001::1',
    '2001:db8::1',
    '::ffff:10.0.0.1',
    '::ffff:7f00:1',
    '::ffff:0:127.0.0.1',
  ])('threat 6: refuses %s, which is not public', (address) => {
    expect(judge(address)).toBeTypeOf('string')
  })

  it.each([
    '169.254.169.254',
    '169.254.170.2',
    'fd00:ec2::254',
    '100.100.100.200',
    '192.0.0.192',
    '168.63.129.16',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    '::ffff:100.100.100.200',
  ])('threat 6: refuses the metadata address %s even when everything private is allowed', (address) => {
    expect(open(address)).toMatch(/metadata/)
  })

  it.each(['8.8.8.8', '93.184.216.34', '2606:4700:4700::1111', '::ffff:8.8.8.8'])(
    'lets the public address %s pass',
    (address) => {
      expect(judge(address)).toBeUndefined()
    },
  )

  it('opens exactly the private ranges that are allowed', () => {
    const some = createAddressJudge({ allowLoopback: false, allowPrivate: ['10.1.0.0/16', 'fd12:3456::/32'] })
    expect(['10.1.2.3', '::ffff:10.1.2.3', 'fd12:3456::1'].map(some)).toEqual([undefined, undefined, undefined])
    for (const address of ['10.2.0.1', '192.168.0.1', 'fd12:3457::1', '127.0.0.1'])
      expect(some(address)).toBeTypeOf('string')
  })

  it('never opens link-local, multicast, unspecified and reserved ranges, whatever is allowed', () => {
    for (const address of [
      '169.254.1.1',
      '224.0.0.1',
      '0.0.0.0',
      '240.0.0.1',
      'fe80::1',
      'ff02::1',
      '::',
      '64:ff9b::a00:1',
      '2002:a00:1::',
    ])
      expect(open(address)).toBeTypeOf('string')
  })

  it('opens loopback only by its own switch', () => {
    expect(createAddressJudge({ allowLoopback: true, allowPrivate: [] })('127.0.0.1')).toBeUndefined()
    expect(createAddressJudge({ allowLoopback: false, allowPrivate: ['127.0.0.0/8'] })('127.0.0.1')).toBeTypeOf(
      'string',
    )
  })

  it('threat 6: an IPv4 address and its IPv6-mapped form are always judged alike', () => {
    fc.assert(
      fc.property(octets, fc.boolean(), (parts, wide) => {
        const rules = wide ? open : judge
        const address = parts.join('.')
        expect(rules(`::ffff:${address}`)).toBe(rules(address))
      }),
    )
  })

  it('threat 6: every IPv6 address outside 2000::/3 is refused', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 }), (words) => {
        const address = words.map((word) => word.toString(16)).join(':')
        const mapped = (ipaddr.parse(address) as ipaddr.IPv6).isIPv4MappedAddress()
        if (!mapped && words[0]! >> 13 !== 1) expect(judge(address)).toBeTypeOf('string')
      }),
    )
  })

  it('what is no address is refused', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        if (!ipaddr.isValid(text)) expect(judge(text)).toBe('it is no address')
      }),
    )
  })

  it('a name that begins like a loopback address is none', () => {
    expect(['localhost', '127.0.0.1', '127.9.9.9', '::1'].map(isLoopbackHost)).toEqual([true, true, true, true])
    expect(
      ['127.evil.example', '127.0.0.1.evil.example', 'localhost.evil.example', '128.0.0.1'].map(isLoopbackHost),
    ).toEqual([false, false, false, false])
  })
})
