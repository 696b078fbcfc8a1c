// The engine's end of a console socket.
package main

import (
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// receiveTerminal listens; the first function waits for the descriptor, the second closes all.
func receiveTerminal(path string) (func() int, func(), error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	listener.SetDeadline(time.Now().Add(10 * time.Second))
	fd := -1
	wait := func() int {
		connection, err := listener.AcceptUnix()
		if err != nil {
			return -1
		}
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(10 * time.Second))
		name, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := connection.ReadMsgUnix(name, control)
		if err != nil {
			return -1
		}
		messages, err := unix.ParseSocketControlMessage(control[:n])
		if err != nil || len(messages) == 0 {
			return -1
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) == 0 {
			return -1
		}
		fd = fds[0]
		return fd
	}
	return wait, func() {
		listener.Close()
		if fd > 2 {
			unix.Close(fd)
		}
		os.Remove(path)
	}, nil
}

func windowSize(fd int) (uint16, uint16) {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return size.Row, size.Col
}

// readTerminal reads until a line has ended, or five seconds have.
func readTerminal(fd int) string {
	var text strings.Builder
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(ready, 200); n == 0 {
			continue
		}
		buffer := make([]byte, 4096)
		n, err := unix.Read(fd, buffer)
		if n > 0 {
			text.Write(buffer[:n])
		}
		if err != nil || strings.Contains(text.String(), "\n") {
			break
		}
	}
	return text.String()
}
