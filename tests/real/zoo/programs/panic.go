// SPDX-License-Identifier: Apache-2.0
// A Go server: `die nil` and `die index` panic, nobody recovers, and Go ends the program with code 2; `die recover` does.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

var numbers = []int{1, 2, 3}
var nothing *struct{ field int }

func die(word string) (answer string) {
	switch word {
	case "recover":
		defer func() { answer = fmt.Sprint(recover() != nil) }()
		return strconv.Itoa(nothing.field)
	case "nil":
		return strconv.Itoa(nothing.field)
	case "index":
		return strconv.Itoa(numbers[len(os.Args)+7])
	}
	return "alive"
}

func converse(connection net.Conn) {
	defer connection.Close()
	sum := 0
	for lines := bufio.NewScanner(connection); lines.Scan(); {
		name, word, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "add":
			number, _ := strconv.Atoi(word)
			sum += number
			fmt.Fprintf(connection, "%d\n", sum)
		case "die":
			fmt.Fprintln(connection, die(word))
		default:
			fmt.Fprintln(connection, word)
		}
	}
}

func main() {
	_, file, _ := strings.Cut(os.Args[2], ":")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(3)
	}
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	if os.WriteFile(file+".new", []byte(port), 0o600) != nil || os.Rename(file+".new", file) != nil {
		os.Exit(4)
	}
	for {
		if connection, err := listener.Accept(); err == nil {
			go converse(connection)
		}
	}
}
