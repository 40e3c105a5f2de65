// SPDX-License-Identifier: Apache-2.0

// A server that lives by fatal signals: each request "nil" dereferences nil and recovers.
//
// Prints its port, then answers each line: "nil" by "recovered", "die" by a nil dereference that nobody recovers, anything
// else by itself.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
)

type node struct{ next *node }

func dereference(n *node) (answer string) {
	defer func() {
		if recover() != nil {
			answer = "recovered"
		}
	}()
	return fmt.Sprint(n.next.next)
}

func serve(connection net.Conn) {
	defer connection.Close()
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		answer := lines.Text()
		if answer == "nil" {
			answer = dereference(nil)
		}
		if answer == "die" {
			var none *node
			answer = fmt.Sprint(none.next.next)
		}
		fmt.Fprintf(connection, "+%s\r\n", answer)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.WriteFile(os.Args[1], []byte(fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)), 0o600); err != nil {
		os.Exit(1)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			os.Exit(1)
		}
		go serve(connection)
	}
}
